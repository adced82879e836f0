"""MobileNetV2 image classifiers (Sandler et al. 2018, doi:10.1109/CVPR.2018.00474), built by torchvision, from scratch."""

from pelagos_contract.families import MOBILENET_V2
from pelagos_pipelines.training import torchvision_networks
from pelagos_pipelines.training.classifiers import Classifiers, Networks

FAMILY = Classifiers(MOBILENET_V2, Networks(torchvision_networks.build, head="classifier.1."))
