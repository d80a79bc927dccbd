"""Whether the Hugging Face hub can be reached, asked once, before its libraries ask many times.

Without a network transformers and datasets try for 23 seconds, for every file that they do not
hold, until they give up, also in a whole model for files that it does not have. One request tells
at once; where it fails, what is on this machine is used, or the user is told what is missing.
"""

from pathlib import Path

from huggingface_hub import get_hf_file_metadata, hf_hub_url, snapshot_download

from lmsl.wording import one_line

# By name, as the hub's client is built on httpx or, from version 2 on, on httpx2, whose errors
# share no base class. A slow or angry answer is an answer: the libraries know how to deal with it.
_NO_CONNECTION = ("ConnectError", "ConnectTimeout", "ProxyError")


def unreachable(
    name: str, file: str, *, revision: str | None = None, dataset: bool = False
) -> str | None:
    """Why the hub cannot be reached, asked for one file of a repository; None where it answers.

    Waits for a connection as long as the variable HF_HUB_ETAG_TIMEOUT says, 10 s by default; in
    offline mode (HF_HUB_OFFLINE) it asks nobody and returns None, as the libraries are quick then.
    """
    kind = "dataset" if dataset else "model"
    try:
        get_hf_file_metadata(hf_hub_url(name, file, revision=revision, repo_type=kind))
    except Exception as error:
        if type(error).__name__ in _NO_CONNECTION:
            return one_line(error)[:100]
    return None


def cached_folder(name: str, revision: str | None = None) -> Path | None:
    """The folder, named by its commit, of what the hub's cache holds of a model; asks nobody."""
    try:
        return Path(snapshot_download(name, revision=revision, local_files_only=True))
    except (OSError, ValueError):
        return None
