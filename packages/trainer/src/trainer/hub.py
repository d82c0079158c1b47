"""Downloads from the Hugging Face hub; see `trainer.experiments.hub`."""

from trainer.experiments.hub import Download, DownloadError, HubDataset, download

__all__ = ["Download", "DownloadError", "HubDataset", "download"]
