"""What a neuromorphic chip would need to run a converted model: cores, traffic, time of a step, latency, energy.

    found = deploy(model, batches, "loihi")
    print(HardwareReport("my model", "a sample", found).summary())

Chips have limits and costs with their sources; `place` says which weights and neurons lie on which core; `deploy` runs
the model in time and counts messages by core and step; `replay` has SANA-FE simulate them (extra `hardware`).
"""

from las_sj.hardware.chip import CHIPS, Chip
from las_sj.hardware.chip_file import ChipFileError
from las_sj.hardware.closed_form import ClosedForm, closed_form
from las_sj.hardware.connection import Connection
from las_sj.hardware.connections import connections_of
from las_sj.hardware.costs import EventCosts
from las_sj.hardware.deployment import Deployment, Options, deploy
from las_sj.hardware.errors import ChipError, PlacementError
from las_sj.hardware.mesh import Mesh
from las_sj.hardware.placement import Layer, Placement, Population
from las_sj.hardware.placer import place
from las_sj.hardware.populations import needs_of, weights_of
from las_sj.hardware.replay import Replay, replay
from las_sj.hardware.replay_job import ReplayError
from las_sj.hardware.report import HardwareReport
from las_sj.hardware.traffic import Traffic, count_traffic

__all__ = [
    "CHIPS",
    "Chip",
    "ChipError",
    "ChipFileError",
    "ClosedForm",
    "Connection",
    "Deployment",
    "EventCosts",
    "HardwareReport",
    "Layer",
    "Mesh",
    "Options",
    "Placement",
    "PlacementError",
    "Population",
    "Replay",
    "ReplayError",
    "Traffic",
    "closed_form",
    "connections_of",
    "count_traffic",
    "deploy",
    "needs_of",
    "place",
    "replay",
    "weights_of",
]
