"""Settings of the parts that are only there when asked for: CoreDNS and karpenter."""

import json

from .site import Site

# A type of karpenter's kwok cloud: name → (GPU memory class, price per hour, vCPU, memory, GPUs).
INSTANCE_TYPES = {
    "g6.xlarge": ("l4", 0.80, 4, "16Gi", 1),
    "g5.xlarge": ("a10g", 1.01, 4, "16Gi", 1),
    "p4de.24xlarge": ("a100-80gb", 27.45, 96, "1152Gi", 8),
    "p5.48xlarge": ("h100", 55.04, 192, "2048Gi", 8),
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
        for name, (_, price, cpu, memory, gpus) in INSTANCE_TYPES.items()
    ]
    return json.dumps(listed, indent=2)
