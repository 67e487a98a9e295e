# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""The client's own session class against a real server: every call, and what its users are told."""

import threading
import time

import numpy as np
import pytest
from interactive_server_help import ball, dice
from nnInteractive.inference.remote import nnInteractiveRemoteInferenceSession as Client


@pytest.fixture(scope="module")
def volume():
    return ball((40, 48, 56), (20, 24, 28), 11)


@pytest.fixture
def client(server, volume):
    with Client(server) as client:
        client.set_image(volume[0][None], {"spacing": [2.0, 1.5, 1.5]})
        client.set_target_buffer(np.zeros(volume[0].shape, np.uint8))
        yield client


def inside(box, shape):
    return all(0 <= low < high <= size for (low, high), size in zip(box, shape, strict=True))


def test_capabilities_tell_the_truth(client, volume):
    assert client.supported_interactions == dict.fromkeys(("points", "bbox2d", "bbox3d", "scribble", "lasso"), True)
    assert (client.supports_undo, client.supports_initial_label, client.do_autozoom) == (True, True, True)
    assert client.license == "Apache-2.0" and client.INFERENCE_SESSION_VERSION == 2
    assert len(client.preferred_scribble_thickness) == 3
    assert client.original_image_shape == (1, *volume[0].shape)
    assert client.ping()


def test_a_point_finds_the_ball_and_the_box_holds_all_that_changed(client, volume):
    box = client.add_point_interaction([20, 24, 28], True)
    assert dice(client.target_buffer, volume[1]) > 0.9
    assert inside(box, volume[1].shape)
    outside = client.target_buffer.copy()
    outside[tuple(slice(*side) for side in box)] = 0
    assert not outside.any()


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int8", "uint16", "int32", "int64"])
def test_masks_come_in_the_type_of_the_buffer(client, volume, dtype):
    client.set_target_buffer(np.zeros(volume[0].shape, dtype))
    client.add_point_interaction(np.array([20, 24, 28]), np.bool_(True))
    assert client.target_buffer.dtype == dtype
    assert dice(client.target_buffer, volume[1]) > 0.9


def test_boxes_flat_and_not_scribbles_lassos_and_background_are_taken(client, volume):
    flat = [[20, 21], [13, 36], [17, 40]]
    assert inside(client.add_bbox_interaction(flat, True), volume[0].shape)
    assert client.target_buffer[20, 24, 28] == 1
    client.add_point_interaction([20, 24, 50], False)
    assert client.target_buffer[20, 24, 50] == 0
    stroke = np.zeros(volume[0].shape, np.uint8)
    stroke[20, 24, 22:34] = 1
    client.add_scribble_interaction(stroke, True)
    lasso = np.zeros((1, 23, 23), np.uint8)
    lasso[0, 2:-2, 2:-2] = 1
    client.add_lasso_interaction(lasso, True, interaction_bbox=flat)
    client.add_bbox_interaction([[9, 31], [13, 35], [17, 39]], True)
    assert dice(client.target_buffer, volume[1]) > 0.6


def test_undo_goes_back_to_the_first_prompt_and_no_further(client):
    states = [client.target_buffer.copy()]
    for point, include in (([20, 24, 28], True), ([20, 24, 33], True), ([20, 24, 38], False)):
        client.add_point_interaction(point, include)
        states.append(client.target_buffer.copy())
    assert not np.array_equal(states[0], states[1])
    for state in reversed(states[:-1]):
        assert client.undo() is True
        assert np.array_equal(client.target_buffer, state)
    assert client.undo() is False and client._last_paste_bbox is None


def test_prompts_that_are_only_noted_are_predicted_later_and_taken_back_together(client, volume):
    assert client.add_point_interaction([20, 24, 28], True, run_prediction=False) is None
    assert not client.target_buffer.any()
    assert client._predict() is not None
    assert dice(client.target_buffer, volume[1]) > 0.9
    assert client._predict() is None
    assert client.undo() is True
    assert not client.target_buffer.any()
    assert client.undo() is False


def test_a_reset_begins_anew(client, volume):
    client.add_point_interaction([20, 24, 28], True)
    found = client.target_buffer.copy()
    client.reset_interactions()
    assert not client.target_buffer.any()
    assert client.undo() is False and not client.target_buffer.any()
    client.add_point_interaction([20, 24, 28], True)
    assert np.array_equal(client.target_buffer, found)


def test_a_mask_to_go_on_from_replaces_all_prompts(client, volume):
    client.add_point_interaction([2, 2, 2], True)
    wrong = volume[1].copy()
    wrong[20:] = False
    assert client.add_initial_seg_interaction(wrong.astype(np.uint8)) is None
    assert np.array_equal(client.target_buffer, wrong)
    client.add_point_interaction([26, 24, 28], True)
    assert client.target_buffer[26, 24, 28] == 1 and not np.array_equal(client.target_buffer, wrong)
    client.undo()
    assert np.array_equal(client.target_buffer, wrong)


def test_autozoom_is_taken_and_the_answer_says_what_holds(client):
    client.set_do_autozoom(False)
    answer = client._post_json("/set_do_autozoom", {"do_autozoom": False})
    assert answer.json() == {"do_autozoom": True}


def test_a_new_image_replaces_the_one_before(client):
    client.add_point_interaction([20, 24, 28], True)
    image, truth = ball((30, 60, 30), (15, 40, 15), 9, seed=4)
    client.set_image(image[None].astype(np.float32))
    client.set_target_buffer(np.zeros(image.shape, np.uint8))
    assert client.undo() is False
    client.add_point_interaction([15, 40, 15], True)
    assert dice(client.target_buffer, truth) > 0.9


def test_the_clock_of_a_place(client):
    status = client.lease_status()
    assert status["idle_timeout_seconds"] == client.idle_timeout_seconds == 600
    time.sleep(0.3)
    # A heartbeat is a sign of life, and no work.
    left = client.heartbeat()
    assert left < status["remaining_seconds"] - 0.2
    client.add_point_interaction([20, 24, 28], True)
    assert client.lease_status()["remaining_seconds"] > left


def test_uploads_and_predictions_keep_no_heartbeat_waiting(server):
    image = np.random.default_rng(0).normal(0, 100, (1, 256, 256, 200)).astype(np.int16)
    image[0, 100:150, 100:150, 80:120] += 500
    waits, done = [], threading.Event()
    with Client(server) as client:

        def beat():
            while not done.is_set():
                start = time.perf_counter()
                client.heartbeat()
                waits.append(time.perf_counter() - start)
                time.sleep(0.02)

        thread = threading.Thread(target=beat)
        thread.start()
        try:
            start = time.perf_counter()
            client.set_image(image, {"spacing": [1.0, 1.0, 1.0]})
            client.set_target_buffer(np.zeros(image.shape[1:], np.uint8))
            client.add_point_interaction([125, 125, 100], True)
            took = time.perf_counter() - start
        finally:
            done.set()
            thread.join()
    assert len(waits) > 10
    # On a busy machine a thread may not run at all for a while; waiting for the work would take all of its time.
    assert sorted(waits)[len(waits) * 9 // 10] < max(0.25, took / 10), sorted(waits)[-5:]


def test_eight_clients_at_once_are_not_mixed_up(server):
    rng = np.random.default_rng(7)
    shapes = [tuple(int(n) for n in rng.integers(24, 48, 3)) for _ in range(8)]
    volumes = [ball(s, tuple(n // 2 + i - 4 for n in s), 6 + i % 4, seed=i) for i, s in enumerate(shapes)]
    masks, errors = [None] * 8, []

    def work(i):
        try:
            image, truth = volumes[i]
            with Client(server) as client:
                for _ in range(2):
                    client.set_image(image[None], {"spacing": [1.0 + 0.1 * i] * 3})
                    client.set_target_buffer(np.zeros(image.shape, np.uint8))
                    middle = [round(float(c)) for c in np.argwhere(truth).mean(axis=0)]
                    client.add_point_interaction(middle, True)
                    client.add_point_interaction([0, 0, 0], False)
                masks[i] = client.target_buffer
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    for i, (_, truth) in enumerate(volumes):
        assert masks[i].shape == truth.shape
        assert dice(masks[i], truth) > 0.8, i
