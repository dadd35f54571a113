"""See what an Apache Beam pipeline with several ML models is, and what it does to memory."""

from mmlab.diagrams import Diagram, diagram

__all__ = ["Diagram", "diagram"]
