"""Where the methods read a network: its layers, by architecture."""

import re
from dataclasses import replace

from workers.config import Layers
from workers.networks import Network
from workers.split import LayerError, layer_names

# Pattern of a network's name -> its layers. VGG16 and ResNet50 as in the reference protocol (items 13, 14).
TABLE: dict[str, Layers] = {
    r"vgg16(_voc|_coco)?": Layers("features.29", "features.23", "classifier.4", "classifier.6"),
    r"resnet\d+(_voc|_coco)?": Layers("layer4", "layer3", "avgpool", "fc"),
    r"(bvlc_)?googlenet": Layers("inception5b", "maxpool2", "avgpool", "fc"),
    r"squeezenet1_1": Layers("features.12", "features.6", "features.12", "classifier.1"),
    r"mobilenet_v2": Layers("features.18", "features.13", "features.18", "classifier.1"),
    r"shapes_cnn": Layers("block4", "block3", "block4", "fc"),
}


def layers_of(network: Network, chosen: Layers) -> Layers:
    """The layers of a network: those chosen, and the table's for the rest.

    Raises:
        LayerError: a chosen layer does not exist.
    """
    for name in (chosen.cam, chosen.excitation, chosen.contrast, chosen.classifier):
        if name is not None and name not in layer_names(network):
            raise LayerError(f"{network.name} has no layer {name!r}")
    known = next((row for pattern, row in TABLE.items() if re.fullmatch(pattern, network.name)), Layers())
    given = {key: value for key, value in vars(chosen).items() if value is not None}
    return replace(known, **given)
