"""Where the methods read known networks: their layers, by architecture. Needs no torch."""

import re

from extremal.workers.saliency.settings import Layers

# Pattern of a network's name -> its layers: cam, excitation, contrast, classifier. VGG16 and ResNet50 as in
# the reference protocol (items 13, 14), GoogLeNet as in Zhang et al. The others by analogy: the last layer
# with space, one with maps of 14 cells (SqueezeNet 27) for 224 pixels, and what the classifier reads. In VGGs
# these are the last ReLU of the convolutions, the fourth pool and relu7.
TABLE: dict[str, Layers] = {
    r"vgg11": Layers("features.19", "features.15", "classifier.4", "classifier.6"),
    r"vgg11_bn": Layers("features.27", "features.21", "classifier.4", "classifier.6"),
    r"vgg13": Layers("features.23", "features.19", "classifier.4", "classifier.6"),
    r"vgg13_bn": Layers("features.33", "features.27", "classifier.4", "classifier.6"),
    r"vgg16(_voc|_coco)?": Layers("features.29", "features.23", "classifier.4", "classifier.6"),
    r"vgg16_bn": Layers("features.42", "features.33", "classifier.4", "classifier.6"),
    r"vgg19": Layers("features.35", "features.27", "classifier.4", "classifier.6"),
    r"vgg19_bn": Layers("features.51", "features.39", "classifier.4", "classifier.6"),
    r"resnet\d+(_voc|_coco)?": Layers("layer4", "layer3", "avgpool", "fc"),
    r"wide_resnet\d+_2|resnext\d+_\d+x\d+d": Layers("layer4", "layer3", "avgpool", "fc"),
    r"(bvlc_)?googlenet": Layers("inception5b", "maxpool2", "avgpool", "fc"),
    r"squeezenet1_0": Layers("features.12", "features.7", "features.12", "classifier.1"),
    r"squeezenet1_1": Layers("features.12", "features.6", "features.12", "classifier.1"),
    r"mobilenet_v2": Layers("features.18", "features.13", "features.18", "classifier.1"),
    r"densenet\d+": Layers("features", "features.denseblock3", "features", "classifier"),
    r"shapes_cnn": Layers("block4", "block3", "block4", "fc"),
}


def known_layers(network: str) -> Layers:
    """The table's layers of a network by its name."""
    return next((row for pattern, row in TABLE.items() if re.fullmatch(pattern, network)), Layers())
