"""A model in its own container image, which answers by the DEEPaaS API, as AI4OS and OSCAR run models.

Runs in the environment `deepaas` (requirements/deepaas.txt), in images/deepaas: the predictor of serving in a process of DEEPaaS.
The package is in the image, or mounted. `server` starts DEEPaaS' own server, `command` its own command line; both load `model`.
"""
