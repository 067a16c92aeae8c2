"""Settings of the parts that are only there when asked for: CoreDNS and karpenter."""

import json

from .site import Site

# The machines that karpenter can buy at the kwok cloud: name → (price per hour, vCPU, memory, GPUs).
INSTANCE_TYPES = {
    "g6.xlarge": (0.80, 4, "16Gi", 1),
    "g5.xlarge": (1.01, 4, "16Gi", 1),
    "p4de.24xlarge": (27.45, 96, "1152Gi", 8),
    "p5.48xlarge": (55.04, 192, "2048Gi", 8),
}


def corefile(site: Site) -> str:
    return f"""\
.:53 {{
    bind {site.network.address}
    errors
    health {site.network.address}:{site.port("dns-health")}
    kubernetes cluster.local {{
        kubeconfig {site.kubeconfig}
    }}
    cache 5
}}
"""


def instance_types() -> str:
    listed = [
        {
            "name": name,
            "offerings": [{"capacityType": "on-demand", "zone": "test-zone-a", "price": price}],
            "architecture": "amd64",
            "operatingSystems": ["linux"],
            "resources": {
                "cpu": str(cpu),
                "memory": memory,
                "ephemeral-storage": "100Gi",
                "pods": "110",
                "nvidia.com/gpu": str(gpus),
            },
        }
        for name, (price, cpu, memory, gpus) in INSTANCE_TYPES.items()
    ]
    return json.dumps(listed, indent=2)
