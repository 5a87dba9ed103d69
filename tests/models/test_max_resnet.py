"""Max-ResNet against its official code."""



from snnkit.models import MaxResNet
from tests.models.official import reproduces
from tests.shared import fixture

SMALL = dict(dims=(4, 6, 8, 12), depths=(2, 2, 1), num_classes=5)


def test_official_outputs_gradients_statistics_and_rates():
    reproduces(MaxResNet(**SMALL), fixture("max_resnet18_cifar"))
