"""See what an Apache Beam pipeline with several ML models is, and what it does to memory."""
