"""Reports that people read: figures as SVG, and one self-contained HTML file."""
