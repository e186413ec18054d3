"""The `atrophy` cohort: simulated longitudinal MRI grown on the MNI152 anatomy, its truth kept, and its oracle."""
