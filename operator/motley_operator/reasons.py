"""Every reason that a condition or an event may give, with when it is used."""

from dataclasses import dataclass

ACCEPTED = "Accepted"  # the object takes part in planning
UNKNOWN_GPU = "UnknownGPU"  # a pool's GPU type is not in the catalogue and it has no sheet
NODES_SHARED = "NodesShared"  # an older pool selects the same nodes
DRAINING = "Draining"  # a pool that is being deleted still holds replicas
UNREADABLE = "Unreadable"  # the object's CRD and this operator differ in version
SERVED_NAME_TAKEN = "ServedNameTaken"  # an older Model has the served name
INSPECTING = "Inspecting"  # the Model's config.json is being read
INSPECTION_FAILED = "InspectionFailed"
HOST_PATH_NOT_ALLOWED = "HostPathNotAllowed"
IMAGE_NOT_ALLOWED = "ImageNotAllowed"
ARGUMENT_NOT_ALLOWED = "ArgumentNotAllowed"
IMPOSSIBLE_NUMBERS = "ImpossibleNumbers"  # of a Model or its Profile: taken together they cannot be right
MODE_NOT_DEPLOYED = "ModeNotDeployed"  # the Model's only mode can be planned, and not be deployed yet
NO_FABRIC = "NoFabric"  # the Model's only mode needs a fabric, and none of its pools has one
NO_POOL = "NoPool"  # no pool is left that the Model may use

PLANNED = "Planned"  # the whole load is in the plan
PARTLY_PLANNED = "PartlyPlanned"  # some of the load is left out
NOT_PLANNED = "NotPlanned"  # none of the load is in the plan
WAITING_FOR_APPROVAL = "WaitingForApproval"
INFEASIBLE = "Infeasible"
UNSOLVED = "Unsolved"

READY = "Ready"
NOT_READY = "NotReady"
UNSCHEDULABLE = "Unschedulable"  # pods wait for nodes
ENGINE_FAILING = "EngineFailing"
NO_NODES = "NoNodes"  # planned nodes of the pool are not there
IDLE = "Idle"  # nothing is planned on the pool

NO_TRAFFIC = "NoTraffic"
SLO_MET = "SLOMet"
SLO_MISSED = "SLOMissed"

ACTIVE = "Active"
SUPERSEDED = "Superseded"
TAMPERED = "Tampered"  # a stored Plan does not say what was decided, and is not applied
CHECK_FAILED = "CheckFailed"  # the plan broke a constraint and is not applied
APPLY_FAILED = "ApplyFailed"


@dataclass(frozen=True)
class Finding:
    """A reason with a message that says what to change."""

    reason: str
    message: str
