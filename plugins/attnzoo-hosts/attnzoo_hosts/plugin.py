"""What attnzoo-hosts offers: the host families. Imports neither torch nor any of the libraries."""

from attnzoo import hookimpl
from attnzoo.hosts import HostFamily
from attnzoo_hosts import build
from attnzoo_hosts.places import SEGMENTATION, TIMM, TORCHVISION, TRANSFORMERS, ULTRALYTICS


@hookimpl
def attnzoo_hosts() -> list[HostFamily]:
    """Return the families of hosts whose good places are known here."""
    return [
        HostFamily("torchvision", TORCHVISION, build.torchvision, ("resnet50", "convnext_tiny", "vit_b_16")),
        HostFamily("timm", TIMM, build.timm, ("resnet50", "vit_small_patch16_224", "convnext_tiny")),
        HostFamily("ultralytics", ULTRALYTICS, build.ultralytics, ("yolov8n", "yolo11n")),
        HostFamily("transformers", TRANSFORMERS, build.transformers, ("vit", "dinov2", "bert")),
        HostFamily(
            "smp", SEGMENTATION, build.segmentation, ("unet-resnet34", "fpn-resnet18"), ("segmentation_models_pytorch",)
        ),
    ]
