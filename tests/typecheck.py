"""The check of types and shapes that tests/conftest.py puts on every function of mmvae_core."""

from beartype import BeartypeConf, beartype

# As for any type checker, an int will do where a float is asked for: code(..., rho=0).
checked = beartype(conf=BeartypeConf(is_pep484_tower=True))
