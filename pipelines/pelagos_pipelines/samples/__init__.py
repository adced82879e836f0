"""The sample collections: real FlowCam crops, and frames that are composed from the organisms in them."""
