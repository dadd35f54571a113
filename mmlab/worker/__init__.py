"""Code that runs in the workers: watched handlers and the recorder that they write to."""
