"""The application of the nightly batches."""
