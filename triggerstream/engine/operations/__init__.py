"""What operators and applications append: orders, records once more, events."""
