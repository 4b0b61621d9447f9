"""Errors of models and packages.

ModelsError
|-- PackageError              a package, an archive or a release is not what it should be
|   |-- ManifestInvalid       manifest.json does not say what a manifest must; with the path inside
|   |-- UnknownFormat         a format number from another version of Longstop
|   |-- ReleaseInvalid        a release document that does not have its fields
|   |-- FileMissing           the manifest names a file that is not there
|   |-- HashMismatch          a file or an archive is not the one that was named
|   |-- ArchiveDamaged        truncated, corrupt, or holding what no package holds
|   |-- ArchiveTooLarge       over a limit, packed or unpacked
|   |-- SignatureInvalid      signed by somebody else, or altered since
|   |-- TargetExists          something is there already where a package should be written
|   |-- TargetUnwritable      nothing can be written there
|   `-- GoldenMismatch        this machine computes other outputs than the package stores
|-- InputError                one request's input; the next may be fine
|   |-- WrongDtype
|   |-- WrongShape
|   |-- EmptyInput
|   `-- NotFinite             NaN or an infinity in a float input
|-- RuntimeFailed             a model file does not load or does not run here
|-- UnknownRuntime            no runtime of that name
|-- UnknownTask               the zoo has no such task
`-- DataMissing               a training set is not here, or is another (models/zoo/data.py)

Every class carries a stable `code`; messages say what happened, to what, and what to do next.
"""


class ModelsError(Exception):
    """Base of everything `models` raises on purpose."""

    code = "models_error"


class PackageError(ModelsError):
    code = "package_error"


class ManifestInvalid(PackageError):
    code = "manifest_invalid"


class UnknownFormat(PackageError):
    code = "unknown_format"


class ReleaseInvalid(PackageError):
    code = "release_invalid"


class FileMissing(PackageError):
    code = "file_missing"


class HashMismatch(PackageError):
    code = "hash_mismatch"


class ArchiveDamaged(PackageError):
    code = "archive_damaged"


class ArchiveTooLarge(PackageError):
    code = "archive_too_large"


class SignatureInvalid(PackageError):
    code = "signature_invalid"


class TargetExists(PackageError):
    code = "target_exists"


class TargetUnwritable(PackageError):
    code = "target_unwritable"


class GoldenMismatch(PackageError):
    code = "golden_mismatch"


class InputError(ModelsError):
    code = "input_invalid"


class WrongDtype(InputError):
    code = "wrong_dtype"


class WrongShape(InputError):
    code = "wrong_shape"


class EmptyInput(InputError):
    code = "empty_input"


class NotFinite(InputError):
    code = "not_finite"


class RuntimeFailed(ModelsError):
    code = "runtime_failed"


class UnknownRuntime(ModelsError):
    code = "unknown_runtime"


class UnknownTask(ModelsError):
    code = "unknown_task"
