"""Published checkpoints: safetensors, and what `torch.save` wrote, read without running what is in the
file."""

from __future__ import annotations

import json
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from archc.diagnostics import ArchError, fail

# Where training scripts put the state dict in what they save, in the order in which they are tried.
WRAPPERS = ("state_dict", "model", "module", "state_dict_ema", "model_ema")
PARALLEL = "module."

# What no honest checkpoint exceeds.
MOST_TENSORS = 200_000
LONGEST_KEY = 1_000
LARGEST_HEADER = 64 * 2**20
DEEPEST_NESTING = 4
# What reading a file may take: this many times its size, and the interpreter's own needs.
MEMORY_FACTOR = 3
SPARE_MEMORY = 2**30


def read(path: Path) -> dict[str, Any]:
    """The tensors of a checkpoint by key, on the CPU, without wrappers and without the `module.` of parallel
    training.

    Raises ArchError E0611 for a file that cannot be read or would have to run code, E0612 for one that holds
    something else than named dense tensors.
    """
    path = Path(path)
    if path.exists() and not path.is_file():
        raise _unreadable(path, "it is not a regular file")
    try:
        with path.open("rb") as file:
            head = file.read(9)
    except OSError as error:
        raise _unreadable(path, error.strerror or str(error)) from None
    if len(head) == 9 and head[8:] == b"{":
        return _named(_safetensors(path, int.from_bytes(head[:8], "little")), path)
    return _named(_unwrapped(_torch(path), path), path)


def shapes(tensors: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """The shape of every tensor."""
    return {key: tuple(tensor.shape) for key, tensor in tensors.items()}


def _unreadable(path: Path, why: str, *helps: str) -> ArchError:
    return fail("E0611", f"`{path.name}` cannot be read as a checkpoint: {why}", helps=helps)


# ---- safetensors


def _safetensors(path: Path, header: int) -> dict[str, Any]:
    size = path.stat().st_size
    if header > min(LARGEST_HEADER, size - 8):
        raise _unreadable(path, f"its header claims {header:,} bytes")
    with path.open("rb") as file:
        file.seek(8)
        text = file.read(header)
    try:
        table = json.loads(text)
    except (ValueError, RecursionError):
        raise _unreadable(path, "its header is not JSON") from None
    if not isinstance(table, dict) or len(table) > MOST_TENSORS:
        raise _unreadable(path, "its header is not a table of tensors")
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path, device="cpu")
    except (SafetensorError, KeyError, ValueError, OSError) as error:
        raise _unreadable(path, str(error)) from None


# ---- torch


def _torch(path: Path) -> Any:
    """What `torch.save` wrote, tensors and plain containers only."""
    import pickle

    import torch

    _check_archive(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's remarks are about the format, and read like archc's own
            with _bounded_memory(MEMORY_FACTOR * path.stat().st_size + SPARE_MEMORY):
                return torch.load(path, map_location="cpu", weights_only=True)
    except MemoryError:
        raise _unreadable(path, "it asks for more memory than its size explains") from None
    except pickle.UnpicklingError:
        raise _unreadable(
            path, "it holds more than tensors, and archc does not run what is in a file",
            "where you trust its origin, load it with torch and save only its state dict",
        ) from None  # fmt: skip
    except Exception as error:  # whatever its readers trip over in a damaged file
        first = (str(error) or type(error).__name__).splitlines()[0]
        raise _unreadable(path, first[:200]) from None


@contextmanager
def _bounded_memory(more: int) -> Iterator[None]:
    """At most `more` bytes beyond what the process has already, where the system can hold it to that: a few bytes
    of a pickle can ask for any amount."""
    try:
        import resource

        pages = int(Path("/proc/self/statm").read_text().split()[0])
    except (ImportError, OSError):
        yield
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    wanted = pages * resource.getpagesize() + more
    below = [limit for limit in (soft, hard) if limit != resource.RLIM_INFINITY]
    resource.setrlimit(resource.RLIMIT_AS, (min([wanted, *below]), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def _check_archive(path: Path) -> None:
    """torch does not compress its archives: one that grows when it is read is not from torch."""
    try:
        if not zipfile.is_zipfile(path):
            return
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
    except Exception as error:  # zipfile checks little before it reads
        raise _unreadable(path, str(error)) from None
    if len(members) > MOST_TENSORS or sum(member.file_size for member in members) > path.stat().st_size:
        raise _unreadable(path, "it unpacks to more than it holds")
    if any(member.filename.endswith(".pkl") and member.file_size > LARGEST_HEADER for member in members):
        raise _unreadable(path, f"its table of contents has more than {LARGEST_HEADER:,} bytes")


def _unwrapped(content: Any, path: Path) -> Mapping[Any, Any]:
    """The state dict inside what a training script saved."""
    for _ in range(DEEPEST_NESTING):
        if not isinstance(content, Mapping):
            break
        inner = next((content[name] for name in WRAPPERS if isinstance(content.get(name), Mapping)), None)
        if inner is None:
            return content
        content = inner
    raise fail("E0612", f"`{path.name}` holds {_kind(content)}, and a checkpoint is a table of named tensors")


def _named(content: Mapping[Any, Any], path: Path) -> dict[str, Any]:
    """`content` as named dense tensors."""
    import torch

    if len(content) > MOST_TENSORS:
        raise fail("E0612", f"`{path.name}` holds more than {MOST_TENSORS:,} entries")
    for key, tensor in content.items():
        if not isinstance(key, str) or len(key) > LONGEST_KEY:
            raise fail("E0612", f"`{path.name}` has an entry whose name is not a short text: {str(key)[:60]!r}")
        if not isinstance(tensor, torch.Tensor):
            known = ", ".join(f"`{name}`" for name in WRAPPERS)
            raise fail(
                "E0612",
                f"`{key}` in `{path.name}` is {_kind(tensor)}, not a tensor",
                helps=(f"archc looks for the state dict under {known}",),
            )
        if tensor.layout != torch.strided or tensor.is_quantized or tensor.device.type != "cpu":
            raise fail("E0612", f"`{key}` in `{path.name}` is not a dense tensor of numbers")
        # A few stored bytes can be described as a tensor of any size: it would only grow when it is copied.
        if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
            raise fail("E0612", f"`{key}` in `{path.name}` claims more numbers than the file holds for it")
    if not content:
        raise fail("E0612", f"`{path.name}` holds no tensors")
    storages = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in content.values()}
    if sum(storages.values()) > path.stat().st_size:
        raise fail("E0612", f"the tensors of `{path.name}` claim more numbers than the file holds")
    parallel = all(key.startswith(PARALLEL) for key in content)
    return {key.removeprefix(PARALLEL) if parallel else key: tensor.detach() for key, tensor in content.items()}


def _kind(value: Any) -> str:
    words: dict[type, str] = {
        dict: "a table",
        list: "a list",
        str: "a text",
        int: "a number",
        float: "a number",
    }
    return words.get(type(value), f"a {type(value).__name__}")
