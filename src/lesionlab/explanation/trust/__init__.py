"""Whether maps show the lesion and what was learnt."""
