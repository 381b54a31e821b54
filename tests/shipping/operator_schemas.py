"""Strict schemas of the operators' objects that we use.

kubernetes-validate holds no schemas of custom resources. Those of the Prometheus operator come from a package of models
made from its definitions; for CloudNativePG and its Barman Cloud plugin there is none, so the fields that we use are
written down here, from their API references, and anything else is refused.
"""

from __future__ import annotations

from typing import Any

from cloudcoil.models.prometheus_operator import v1 as prometheus_operator
from jsonschema import Draft202012Validator

Schema = dict[str, Any]


def _object(required: str = "", **properties: Schema) -> Schema:
    return {
        "type": "object",
        "properties": properties,
        "required": required.split(),
        "additionalProperties": False,
    }


def _list(items: Schema) -> Schema:
    return {"type": "array", "items": items, "minItems": 1}


def _one_of(*values: str) -> Schema:
    return {"enum": list(values)}


_TEXT: Schema = {"type": "string", "minLength": 1}
_FLAG: Schema = {"type": "boolean"}
_COUNT: Schema = {"type": "integer", "minimum": 1}
_QUANTITY: Schema = {"type": ["string", "integer"], "pattern": r"^[0-9]+(m|Mi|Gi|Ti)?$"}
_POSTGRES_SIZE_OR_TIME: Schema = {"type": "string", "pattern": r"^[a-z0-9_]+$|^[0-9]+(kB|MB|GB|ms|s|min|h|d)?$"}
_NAMED = _object("name", name=_TEXT)
_SECRET_KEY = _object("name key", name=_TEXT, key=_TEXT)
_STORAGE = _object("size", size=_QUANTITY, storageClass=_TEXT)
_RESOURCES = _object(
    requests=_object(cpu=_QUANTITY, memory=_QUANTITY),
    limits=_object(cpu=_QUANTITY, memory=_QUANTITY),
)
_METADATA = _object(
    "name",
    name=_TEXT,
    namespace=_TEXT,
    labels={"type": "object", "additionalProperties": _TEXT},
    annotations={"type": "object", "additionalProperties": _TEXT},
)
_STREAM = _object(
    compression=_one_of("gzip", "bzip2", "snappy", "lz4", "xz", "zstd"),
    encryption=_one_of("AES256", "aws:kms"),
    maxParallel=_COUNT,
    jobs=_COUNT,
)


def _resource(version: str, kind: str, spec: Schema) -> Schema:
    return _object(
        "apiVersion kind metadata spec",
        apiVersion={"const": version},
        kind={"const": kind},
        metadata=_METADATA,
        spec=spec,
    )


_SCHEMAS: dict[str, Schema] = {
    "Cluster": _resource(
        "postgresql.cnpg.io/v1",
        "Cluster",
        _object(
            "instances storage",
            instances=_COUNT,
            imageName=_TEXT,
            primaryUpdateStrategy=_one_of("unsupervised", "supervised"),
            primaryUpdateMethod=_one_of("switchover", "restart"),
            bootstrap=_object(
                initdb=_object(
                    database=_TEXT,
                    owner=_TEXT,
                    secret=_NAMED,
                    dataChecksums=_FLAG,
                    postInitSQL=_list(_TEXT),
                    postInitApplicationSQL=_list(_TEXT),
                )
            ),
            managed=_object(
                roles=_list(
                    _object(
                        "name",
                        name=_TEXT,
                        ensure=_one_of("present", "absent"),
                        login=_FLAG,
                        passwordSecret=_NAMED,
                    )
                )
            ),
            postgresql=_object(
                parameters={"type": "object", "additionalProperties": _POSTGRES_SIZE_OR_TIME},
                synchronous=_object(
                    "method number",
                    method=_one_of("any", "first"),
                    number=_COUNT,
                    dataDurability=_one_of("required", "preferred"),
                    failoverQuorum=_FLAG,
                ),
            ),
            storage=_STORAGE,
            walStorage=_STORAGE,
            resources=_RESOURCES,
            affinity=_object(
                enablePodAntiAffinity=_FLAG,
                podAntiAffinityType=_one_of("preferred", "required"),
                topologyKey=_TEXT,
            ),
            plugins=_list(
                _object(
                    "name",
                    name=_TEXT,
                    isWALArchiver=_FLAG,
                    parameters=_object("barmanObjectName", barmanObjectName=_TEXT),
                )
            ),
        ),
    ),
    "ScheduledBackup": _resource(
        "postgresql.cnpg.io/v1",
        "ScheduledBackup",
        _object(
            "schedule cluster",
            schedule={"type": "string", "pattern": r"^(\S+ ){5}\S+$"},  # six fields: seconds come first
            immediate=_FLAG,
            backupOwnerReference=_one_of("none", "self", "cluster"),
            method=_one_of("plugin", "volumeSnapshot", "barmanObjectStore"),
            pluginConfiguration=_NAMED,
            cluster=_NAMED,
        ),
    ),
    "ObjectStore": _resource(
        "barmancloud.cnpg.io/v1",
        "ObjectStore",
        _object(
            "configuration",
            retentionPolicy={"type": "string", "pattern": "^[1-9][0-9]*[dwm]$"},
            configuration=_object(
                "destinationPath",
                destinationPath={"type": "string", "pattern": "^s3://[a-z0-9-]+/"},
                endpointURL=_TEXT,
                s3Credentials=_object(
                    "accessKeyId secretAccessKey", accessKeyId=_SECRET_KEY, secretAccessKey=_SECRET_KEY
                ),
                wal=_STREAM,
                data=_STREAM,
            ),
        ),
    ),
}
_MODELS = {
    "ServiceMonitor": prometheus_operator.ServiceMonitor,
    "PodMonitor": prometheus_operator.PodMonitor,
    "PrometheusRule": prometheus_operator.PrometheusRule,
}
KINDS = frozenset(_SCHEMAS) | frozenset(_MODELS)


def check(manifest: dict[str, Any]) -> None:
    """Hold a custom resource against its definition.

    Raises:
        jsonschema.ValidationError, pydantic.ValidationError, AssertionError: where it does not fit.
    """
    kind = manifest["kind"]
    if kind in _SCHEMAS:
        Draft202012Validator(_SCHEMAS[kind]).validate(manifest)
        return
    # The models overlook what they do not know; what does not survive them was unknown.
    known = _MODELS[kind].model_validate(manifest).model_dump(by_alias=True, exclude_unset=True, mode="json")
    assert known == manifest
