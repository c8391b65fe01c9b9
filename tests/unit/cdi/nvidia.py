"""A base spec as NVIDIA's toolkit writes it, for one whole GPU and two MIG devices of another."""

from typing import Any

UUIDS = ("GPU-8d3a", "MIG-51c0", "MIG-77fe")
NODES = {
    "GPU-8d3a": ["/dev/nvidia0"],
    "MIG-51c0": ["/dev/nvidia1", "/dev/nvidia-caps/nvidia-cap30", "/dev/nvidia-caps/nvidia-cap31"],
    "MIG-77fe": ["/dev/nvidia1", "/dev/nvidia-caps/nvidia-cap39", "/dev/nvidia-caps/nvidia-cap40"],
}
COMMON = {
    "env": ["NVIDIA_VISIBLE_DEVICES=void"],
    "deviceNodes": [{"path": "/dev/nvidiactl"}, {"path": "/dev/nvidia-uvm"}],
    "hooks": [
        {
            "hookName": "createContainer",
            "path": "/usr/bin/nvidia-cdi-hook",
            "args": ["nvidia-cdi-hook", "update-ldcache"],
        }
    ],
    "mounts": [
        {"hostPath": "/usr/lib/libcuda.so.1", "containerPath": "/usr/lib/libcuda.so.1", "options": ["ro", "bind"]}
    ],
}


def base(**fields: Any) -> dict[str, Any]:
    named = [(uuid, NODES[uuid]) for uuid in UUIDS]
    named += [("0", NODES[UUIDS[0]]), ("all", sorted({node for nodes in NODES.values() for node in nodes}))]
    devices = [
        {"name": name, "containerEdits": {"deviceNodes": [{"path": path} for path in nodes]}} for name, nodes in named
    ]
    return {"cdiVersion": "0.5.0", "kind": "nvidia.com/gpu", "devices": devices, "containerEdits": COMMON} | fields
