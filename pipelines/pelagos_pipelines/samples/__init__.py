"""The samples that the main job runs on: real FlowCam crops, and frames that are composed from the organisms in them."""
