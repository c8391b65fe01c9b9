"""What a host does by itself to keep to its policy; each job can be run by hand, twice, and dry."""
