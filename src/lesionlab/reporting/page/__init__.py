"""What every page is made of: sections, figures, tables and templates."""
