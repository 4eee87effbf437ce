"""What is known of how a model was trained: the record that a callback writes, and other trainers' files."""

from __future__ import annotations

from typing import TYPE_CHECKING

from whence.lazy import attach

if TYPE_CHECKING:
    from whence.records.callback import TrainingRecord
    from whence.records.settings import FolderSettings, find_record, settings_of_folder
    from whence.records.trainer_settings import recorded_adapter
    from whence.records.training import (
        RECORD,
        RecordedData,
        RecordedEncoding,
        RecordedRun,
        TrainingFile,
        read_record,
        write_record,
    )

__all__ = [
    "RECORD",
    "FolderSettings",
    "RecordedData",
    "RecordedEncoding",
    "RecordedRun",
    "TrainingFile",
    "TrainingRecord",
    "find_record",
    "read_record",
    "recorded_adapter",
    "settings_of_folder",
    "write_record",
]

__getattr__, __dir__ = attach(
    __name__,
    {
        "callback": ["TrainingRecord"],
        "settings": ["FolderSettings", "find_record", "settings_of_folder"],
        "trainer_settings": ["recorded_adapter"],
        "training": [
            "RECORD",
            "RecordedData",
            "RecordedEncoding",
            "RecordedRun",
            "TrainingFile",
            "read_record",
            "write_record",
        ],
    },
)
