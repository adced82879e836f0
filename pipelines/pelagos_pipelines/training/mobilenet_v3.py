"""MobileNetV3 image classifiers (Howard et al. 2019, doi:10.1109/ICCV.2019.00140), built by torchvision, trained from scratch."""

from pelagos_contract.families import MOBILENET_V3
from pelagos_pipelines.training import torchvision_networks
from pelagos_pipelines.training.classifiers import Classifiers, Networks

FAMILY = Classifiers(MOBILENET_V3, Networks(torchvision_networks.build, head="classifier.3."))
