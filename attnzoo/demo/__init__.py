"""The main job: a small CNN, pretrained attention blocks from a spec, real images, a table and a picture."""
