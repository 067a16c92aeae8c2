"""The errors of this package.

MotleyError
├── ApiError          the API server said no, or did not answer
│   ├── Unreachable   no answer: go on as before, try again
│   ├── NotFound      the object is gone
│   ├── Conflict      somebody else was faster
│   └── Refused       it will not have this object (invalid, forbidden, quota)
└── LeaseLost         another replica acts now; nothing more may be written
"""


class MotleyError(Exception):
    """Message: gerund and object, `applying Deployment default/chat: conflict`."""


class ApiError(MotleyError):
    pass


class Unreachable(ApiError):
    pass


class NotFound(ApiError):
    pass


class Conflict(ApiError):
    pass


class Refused(ApiError):
    pass


class LeaseLost(MotleyError):
    pass
