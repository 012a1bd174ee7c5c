"""Grid generator and bilinear sampler of the spatial transformer."""

from typing import Literal

from torch import Tensor, nn

from attnzoo_vision.ops.affine_grid import affine_grid, sample
from attnzoo_vision.ops.checks import check_choice, check_input


class AffineSampler(nn.Module):
    """Sample a map at the points that an affine matrix sends the output's pixels to.

    ``y[i, j] = bilinear(x, theta @ (u_j, v_i, 1))``, ``u`` and ``v`` evenly spaced from -1 to 1

    Args:
        output_size: Height and width of the output in pixels; None means those of the input.
        mode: How values between pixels are found.
        padding_mode: What lies outside the map: zeros, the border pixel, or the map mirrored.
        align_corners: -1 and 1 are the centres of the border pixels, as in the paper, instead of their outer edges.

    Shape:
        ``x_nchw`` ``(N, C, H, W)`` and ``theta_n23`` ``(N, 2, 3)``, whose rows give x and y, in this order, to
        ``(N, C, output_size[0], output_size[1])``.

    Raises:
        ValueError: ``output_size`` is not two positive numbers, or a choice is not known.

    Source:
        Jaderberg et al., "Spatial Transformer Networks", NeurIPS 2015, arXiv:1506.02025, eq. 1-5.
        The authors released no code; checked against ``affine_grid`` and ``grid_sample`` of torch.
        Deviations: none. The Torch7 code that the community followed has theta in (y, x) order.
    """

    def __init__(
        self,
        *,
        output_size: list[int] | None = None,
        mode: Literal["bilinear", "nearest", "bicubic"] = "bilinear",
        padding_mode: Literal["zeros", "border", "reflection"] = "zeros",
        align_corners: bool = True,
    ) -> None:
        super().__init__()
        if output_size is not None and (len(output_size) != 2 or min(output_size) < 1):
            message = f"AffineSampler: output_size={output_size} is not [height, width], both at least 1; "
            message += "give two such numbers"
            raise ValueError(message)
        check_choice("AffineSampler", "mode", mode, ("bilinear", "nearest", "bicubic"))
        check_choice("AffineSampler", "padding_mode", padding_mode, ("zeros", "border", "reflection"))
        self.output_size = None if output_size is None else (output_size[0], output_size[1])
        self.mode = mode
        self.padding_mode = padding_mode
        self.align_corners = align_corners

    def forward(self, x_nchw: Tensor, theta_n23: Tensor) -> Tensor:
        """Return the values of ``x_nchw`` at the transformed points."""
        grid_nij2 = self._grid(x_nchw, theta_n23)
        return sample(x_nchw, grid_nij2, self.mode, self.padding_mode, self.align_corners)

    def attention(self, x_nchw: Tensor, theta_n23: Tensor) -> dict[str, Tensor]:
        """Return ``grid``, the point (x, y) that each pixel of the output is read at, ``(N, H, W, 2)``."""
        return {"grid": self._grid(x_nchw, theta_n23)}

    def _grid(self, x_nchw: Tensor, theta_n23: Tensor) -> Tensor:
        check_input("AffineSampler", x_nchw)
        height, width = self.output_size or x_nchw.shape[2:]
        return affine_grid(theta_n23, height, width, align_corners=self.align_corners)
