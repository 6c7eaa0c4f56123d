"""Hair, rulers, ink, vignettes and colour casts."""
