# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""Many clients, many clicks."""

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from blocks import dice, seen, write_blocks
from servers import reader, with_little_memory


def test_eight_clients_on_eight_volumes_get_each_their_own_masks(known):
    truths = {}
    for k in range(8):
        block = (slice(4 + 3 * k, 12 + 3 * k), slice(20 - 2 * k, 32 - 2 * k), slice(3 + 2 * k, 15 + 2 * k))
        truths[f"volume_{k}"] = write_blocks(known.studies / f"volume_{k}.nii.gz", np.eye(4), [block]) > 0
    seen(known, *truths)

    def click(name: str) -> list[float]:
        truth = truths[name]
        places = np.argwhere(truth)
        client, overlaps = known.client(name), []
        for turn in range(6):
            clicks = [places[(7 * t) % len(places)].tolist() for t in range(turn % 3 + 1)]
            params = {"foreground": clicks, "result_extension": ".nrrd", "result_dtype": "uint8"}
            file, answer = client.infer("fastsam3d_deepgrow", name, params)
            assert answer["objects"][0]["prompts"]["points"] == clicks
            import SimpleITK

            overlaps.append(dice(SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(file)).T > 0, truth))
            Path(file).unlink()
        return overlaps

    with ThreadPoolExecutor(8) as clients:
        found = dict(zip(truths, clients.map(click, truths), strict=True))
    assert min(min(overlaps) for overlaps in found.values()) > 0.9


def test_five_hundred_clicks_leave_memory_and_the_temporary_folder_flat(start, tmp_path):
    with start(tmp_path, change=with_little_memory) as server:
        click_often(server)


def click_often(server) -> None:
    import psutil

    names = [f"many_{k}" for k in range(4)]
    block = (slice(8, 40), slice(8, 32), slice(8, 28))
    for name in names:
        write_blocks(server.studies / f"{name}.nii.gz", np.eye(4), [block])
    seen(server, *names)
    rng = np.random.default_rng(0)
    processes = [psutil.Process(server.process.pid), reader(server)]
    client = server.client("many")

    def click(count: int) -> None:
        for k in range(count):
            # One to seven clicks in a volume, then the next volume, as people work.
            clicks = rng.integers([9, 9, 9], [39, 31, 27], size=(k % 7 + 1, 3)).tolist()
            params = {"foreground": clicks, "result_extension": ".nrrd", "result_dtype": "uint8"}
            file, _ = client.infer("fastsam3d_deepgrow", names[k // 7 % 4], params)
            Path(file).unlink()

    click(150)
    before = sum(p.memory_info().rss for p in processes)
    click(350)
    grown = (sum(p.memory_info().rss for p in processes) - before) / 2**20
    assert grown < 100, f"{grown:.0f} MiB more after 350 further clicks"
    # The last mask is deleted after its answer was sent.
    end = time.monotonic() + 10
    while (left := list((server.folder / "temporary").glob("*.nrrd"))) and time.monotonic() < end:
        time.sleep(0.1)
    assert not left
