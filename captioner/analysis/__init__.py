"""Inside a trained network: unit activations, gradient norms over distance, retrieval of images by captions."""
