"""Which values the keys of a tenant's ConfigMap may have, and the messages about others."""

from __future__ import annotations

from dataclasses import fields

import pytest
from pydantic.alias_generators import to_snake

from pelagos.api import tenant_settings
from pelagos.ports.tenants import Tenant

GOOD = [
    {},
    {"experimentPrefix": "institute/plankton "},
    {"storagePrefix": "institute"},
    {"storagePrefix": "institute/plankton.v2/a_b-c"},
    {"queue": "gpu-queue", "serviceAccount": "pelagos-workload"},
    {"trackingSecret": "mlflow", "objectsSecret": "s3.example", "dataClaim": "data", "objectsClaim": "objects"},
    {"imagePullSecrets": "one, two,three four"},
    {"sharedWith": "one, two", "queues": "fast slow"},
    {
        "sourceHosts": "https://cvat.lab.example, http://10.3.0.7:8080 10.20.0.0/16, https://*.lab.example:*, https://[fd00::7]"
    },
    {"maxGpus": "0"},
    {"maxGpus": "9999"},
    {"queue": ""},
]
BAD = [
    (
        {"colour": "blue"},
        "colour is not a known key; allowed are experimentPrefix, storagePrefix, sharedWith, queue",
    ),
    ({"storage_prefix": "a"}, "storage_prefix is not a known key"),
    ({"storagePrefix": "/institute"}, "storagePrefix is '/institute'; allowed is folders separated by /"),
    ({"storagePrefix": "institute/"}, "storagePrefix is"),
    ({"storagePrefix": "institute//a"}, "storagePrefix is"),
    ({"storagePrefix": "../other"}, "storagePrefix is"),
    ({"storagePrefix": "institute/../other"}, "storagePrefix is"),
    ({"storagePrefix": "institute/.hidden"}, "storagePrefix is"),
    ({"storagePrefix": "institute\nother"}, "storagePrefix is"),
    ({"storagePrefix": "institute\n"}, "storagePrefix is"),
    ({"storagePrefix": "a" * 201}, "at most 200 characters"),
    ({"experimentPrefix": "/a"}, "experimentPrefix is"),
    ({"queue": "GPU"}, "queue is 'GPU'; allowed is the name of a Kueue LocalQueue"),
    ({"serviceAccount": "other/account"}, "serviceAccount is"),
    ({"trackingSecret": "-a"}, "trackingSecret is"),
    ({"imagePullSecrets": "one;two"}, "imagePullSecrets is"),
    ({"sharedWith": "One"}, "sharedWith is 'One'; allowed is names of namespaces, separated by commas"),
    ({"queues": "a/b"}, "queues is"),
    ({"sourceHosts": "ftp://lab.example"}, "sourceHosts: 'ftp://lab.example' is not a host; allowed are https://host"),
    ({"sourceHosts": "10.0.0.1/8"}, "sourceHosts: '10.0.0.1/8' is not a network"),
    ({"sourceHosts": "https://a.example/?x"}, "sourceHosts is"),
    ({"sourceHosts": "a b" * 2000}, "at most 4000 characters"),
    ({"maxGpus": "-1"}, "maxGpus is '-1'; allowed is a whole number from 0 to 9999"),
    ({"maxGpus": "many"}, "maxGpus is"),
    ({"maxGpus": "10000"}, "maxGpus is"),
]


@pytest.mark.parametrize("data", GOOD, ids=str)
def test_values_that_may_be_used(data: dict[str, str]) -> None:
    assert tenant_settings.problem(data) is None


@pytest.mark.parametrize(("data", "words"), BAD, ids=str)
def test_a_bad_value_is_named_with_its_key_and_what_is_allowed(data: dict[str, str], words: str) -> None:
    found = tenant_settings.problem(data)

    assert found is not None
    assert words in found


def test_every_convention_of_a_tenant_has_a_key_and_every_key_a_convention() -> None:
    of_one_machine = {"any_priority"}
    assert {to_snake(key) for key in tenant_settings.KEYS} | of_one_machine == {field.name for field in fields(Tenant)}
