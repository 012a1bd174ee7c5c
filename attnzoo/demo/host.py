"""The host of the demo: a small convolutional network for 28x28 grey images."""

from torch import Tensor, nn

__all__ = ["SmallCNN"]


def _stage(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)
    )


class SmallCNN(nn.Module):
    """Three convolution stages with pooling between, then a linear classifier.

    Args:
        width: Channels of the first stage; the others have two and four times as many.
        classes: Number of classes.

    Shape:
        ``(N, 1, 28, 28)`` to ``(N, classes)``; ``site`` sees ``(N, 2 width, 14, 14)``.
    """

    def __init__(self, width: int = 16, classes: int = 10) -> None:
        super().__init__()
        self.stage1 = _stage(1, width)
        self.stage2 = _stage(width, 2 * width)
        self.site = nn.Identity()  # the place where attention goes in
        self.stage3 = _stage(2 * width, 4 * width)
        self.pool = nn.MaxPool2d(2)
        self.head = nn.Linear(4 * width, classes)

    def forward(self, x_nchw: Tensor) -> Tensor:
        """Return the class scores of the images."""
        x_nchw = self.pool(self.stage1(x_nchw))
        x_nchw = self.site(self.stage2(x_nchw))
        x_nchw = self.stage3(self.pool(x_nchw))
        scores: Tensor = self.head(x_nchw.mean(dim=(2, 3)))
        return scores
