"""Names that objects in the cluster carry: labels, annotations, the finalizer, the field manager."""

from motley_operator.api import GROUP

FIELD_MANAGER = "motley-operator"
DRAIN_FINALIZER = f"{GROUP}/drain"

COMPONENT = f"{GROUP}/component"
"""`engine` or `inspection`."""
MODEL = f"{GROUP}/model"
POOL = f"{GROUP}/pool"
ROLE = f"{GROUP}/role"
TENSOR_PARALLEL = f"{GROUP}/tensor-parallel"
CONFIGURATION = f"{GROUP}/configuration"
"""Fingerprint of the whole pod template: other settings make another group of replicas."""
SOURCE = f"{GROUP}/source"
"""Annotation of an inspection Job: what it reads."""
APPLIED = f"{GROUP}/applied"
"""Annotation: fingerprint of the manifest that was applied last."""
MANAGED_BY = "app.kubernetes.io/managed-by"
MANAGED = {MANAGED_BY: "motley"}
