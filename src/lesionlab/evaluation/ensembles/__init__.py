"""Ensembles: several models' predictions as one."""
