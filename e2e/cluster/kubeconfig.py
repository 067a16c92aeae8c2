"""Renders kubeconfig files (as JSON, which is YAML too), complete in themselves."""

import base64
import json
from pathlib import Path


def render(cluster: str, server: str, folder: Path, user: str) -> str:
    """A kubeconfig for the client whose certificate and key are USER.crt and USER.key in the folder."""

    def data(name: str) -> str:
        return base64.b64encode((folder / name).read_bytes()).decode()

    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": cluster,
        "clusters": [{"name": cluster, "cluster": {"server": server, "certificate-authority-data": data("ca.crt")}}],
        "users": [
            {
                "name": user,
                "user": {
                    "client-certificate-data": data(f"{user}.crt"),
                    "client-key-data": data(f"{user}.key"),
                },
            }
        ],
        "contexts": [{"name": cluster, "context": {"cluster": cluster, "user": user}}],
    }
    return json.dumps(content, indent=2) + "\n"
