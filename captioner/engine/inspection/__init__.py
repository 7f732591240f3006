"""Inside a trained network: units over text, gradients over distance, attention against boxes, images by captions."""
