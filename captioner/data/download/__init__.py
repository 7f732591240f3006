"""Downloads of data sets and encoder weights: resumable, verified, unpacked safely."""
