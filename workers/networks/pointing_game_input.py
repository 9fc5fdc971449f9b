"""How the pointing game's networks are shown an image (protocol item 6); needs no torch.

Caffe's mean, in RGB, taken from values of 0 to 255.
"""

MEAN = (123.68 / 255, 116.779 / 255, 103.939 / 255)
STD = (1 / 255, 1 / 255, 1 / 255)
ANTIALIAS = False
