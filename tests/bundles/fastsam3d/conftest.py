# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""A server in miniature for the tests of this bundle."""

import pytest
from monai.bundle import ConfigParser
from monai.transforms import SaveImaged


@pytest.fixture
def new_server(fastsam3d_path, tmp_path):
    """``new_server(network, **settings)`` -> ``serve(image, **request) -> data``, with caches of its own.

    The configuration is called as MONAI Label does: transforms one by one, the inferer with two arguments.
    """

    def start(network, **settings):
        parser = ConfigParser()
        parser.read_config(str(fastsam3d_path / "configs" / "inference.json"))
        here = {"bundle_root": str(fastsam3d_path), "cube_size": 32, "output_dir": str(tmp_path / "unused")}
        parser.update({**here, **settings})
        before, after = (parser.get_parsed_content(f"{step}processing").transforms for step in ("pre", "post"))
        inferer = parser.get_parsed_content("inferer")
        inferer.progress = False

        def serve(image, **request):
            data = {"model": "fastsam3d", "device": "cpu", "result_extension": ".nrrd", **request, "image": str(image)}
            for transform in before:
                data = transform(data)
            data["pred"] = inferer(data["image"][None].to("cpu"), network)[0]
            for transform in after:
                if not isinstance(transform, SaveImaged):
                    data = transform(data)
            return data

        serve.volumes, serve.embeddings = before[0].cache, inferer.cache
        return serve

    return start


@pytest.fixture
def serve(new_server, threshold_network):
    """``serve(image, **request) -> data`` of a server with the stand-in network; one server, many requests."""
    return new_server(threshold_network)
