"""Errors of models and packages.

ModelsError
|-- PackageError              a package, an archive or a release is not what it should be
|   |-- ManifestInvalid       manifest.json does not say what a manifest must; with the path inside
|   |-- RecipeInvalid         a recipe that does not say what a package is made of
|   |-- UnknownEdition        the package has no edition of that name
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
|   |-- UndecodableInput      a picture or a sound that cannot be decoded
|   |   `-- PictureTooLarge   more pixels than the package decodes
|   |-- WrongSampleRate       a sound at another rate than the pipeline was made for
|   |-- FieldMissing          a record without a field that nothing imputes
|   |-- FieldInvalid          a field of another type, or a value that cannot be used
|   |-- UnknownCategory       a category the package does not list
|   |-- WrongDtype
|   |-- WrongShape
|   |-- EmptyInput
|   `-- NotFinite             NaN or an infinity in a float input
|-- RuntimeFailed             a model file does not load or does not run here
|   |-- ProviderUnavailable   none of the providers that were asked for is there
|   |-- RuntimeMissing        the library is not installed
|   |-- OperatorUnsupported   the file holds an operator the library does not have
|   |-- OpsetUnsupported      the file was written for a newer ONNX than the library's
|   |-- ExternalDataMissing   the file keeps weights in another file, which is not there
|   `-- NoCandidate           of several files and runtimes none is fit for this device
|-- UnknownRuntime            no runtime of that name
|-- QuantizeError             a model file cannot be quantised as asked
|   |-- QuantizeOptionsInvalid    an option, or two together, that make no sense
|   |-- ModelUnreadable       no ONNX file, a truncated one, or its external data is not there
|   |-- UnknownOperator       a custom operator, which no runtime here knows
|   |-- ModelUnsupported      valid ONNX which cannot be quantised; the message says why
|   |-- AlreadyQuantised      the file holds integer weights already
|   |-- NothingToQuantise     no layer with weights is left to quantise
|   |-- UnknownLayer          a layer to keep in FP32 which the model does not have
|   |-- CalibrationUnfit      calibration inputs that are not this model's inputs
|   |-- CalibrationTooSmall   fewer samples than ranges can be taken from
|   |-- LabelsUnfit           labels outside the model's classes, or not one for each sample
|   |-- GridMismatch          a base file that is not this model, quantised
|   `-- GridClipped           a fine-tune too far from its base for the base's grid
|-- CalibrateError            no certificate can be made from these outcomes as asked
|   |-- PromiseNotOffered     a promise and a guarantee that do not go together
|   |-- OutcomesMissing       the promise needs labels or cloud answers that are not there
|   |-- TooFewSamples         not even a split or a score can be chosen from so few
|   |-- ConstantScore         every sample has the same score, or none has one
|   |-- LabelOutside          a label that is not of the label set
|   |-- RowsOverlap           calibration samples found among tuning or training samples
|   `-- GroupsMixed           one person, device or clip on both sides of a split
|-- EstimatorUnreadable     a file that joblib does not read here
|-- EstimatorUnsupported    a scikit-learn estimator that is not exported, or not as it is
|-- DataError               a file of samples that cannot be used
|   |-- DataUnreadable        damaged, or of a form that is not read
|   |-- DataEmpty             there is no sample in it
|   |-- ColumnUnknown         it has no column of that name
|   |-- RowUnreadable         one row of it is not what the others are
|   `-- BatchRunning          another batch is writing the same output
|-- UnfitData               arrays to evaluate that do not fit each other, or the certificate
|-- TokeniserInvalid          a package's tokeniser file cannot be read
|-- CustomCodeForbidden       a package brings code of its own and the settings do not allow it
|-- CustomStepFailed          a package's own code does not load, fails, or gives another kind
|-- FeatureSourceOut          features cannot be fetched now; the declared default is used
|-- ExtraMissing              a library of an optional extra is not installed
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


class RecipeInvalid(PackageError):
    code = "recipe_invalid"


class UnknownEdition(PackageError):
    code = "unknown_edition"


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


class UndecodableInput(InputError):
    code = "undecodable_input"


class PictureTooLarge(UndecodableInput):
    code = "picture_too_large"


class WrongSampleRate(InputError):
    code = "wrong_sample_rate"


class FieldMissing(InputError):
    code = "field_missing"


class FieldInvalid(InputError):
    code = "field_invalid"


class UnknownCategory(InputError):
    code = "unknown_category"


class RuntimeFailed(ModelsError):
    code = "runtime_failed"


class ProviderUnavailable(RuntimeFailed):
    code = "provider_unavailable"


class RuntimeMissing(RuntimeFailed):
    code = "runtime_missing"


class OperatorUnsupported(RuntimeFailed):
    code = "operator_unsupported"


class OpsetUnsupported(RuntimeFailed):
    code = "opset_unsupported"


class ExternalDataMissing(RuntimeFailed):
    code = "external_data_missing"


class NoCandidate(RuntimeFailed):
    code = "no_candidate"


class UnknownRuntime(ModelsError):
    code = "unknown_runtime"


class UnfitData(ModelsError):
    code = "unfit_data"


class TokeniserInvalid(ModelsError):
    code = "tokeniser_invalid"


class CustomCodeForbidden(ModelsError):
    code = "custom_code_forbidden"


class CustomStepFailed(ModelsError):
    code = "custom_step_failed"


class FeatureSourceOut(ModelsError):
    code = "feature_source_out"


class ExtraMissing(ModelsError):
    code = "extra_missing"


class UnknownTask(ModelsError):
    code = "unknown_task"


class QuantizeError(ModelsError):
    code = "quantize_error"


class QuantizeOptionsInvalid(QuantizeError):
    code = "quantize_options_invalid"


class ModelUnreadable(QuantizeError):
    code = "model_unreadable"


class UnknownOperator(QuantizeError):
    code = "unknown_operator"


class ModelUnsupported(QuantizeError):
    code = "model_unsupported"


class AlreadyQuantised(QuantizeError):
    code = "already_quantised"


class NothingToQuantise(QuantizeError):
    code = "nothing_to_quantise"


class UnknownLayer(QuantizeError):
    code = "unknown_layer"


class CalibrationUnfit(QuantizeError):
    code = "calibration_unfit"


class CalibrationTooSmall(QuantizeError):
    code = "calibration_too_small"


class LabelsUnfit(QuantizeError):
    code = "labels_unfit"


class GridMismatch(QuantizeError):
    code = "grid_mismatch"


class GridClipped(QuantizeError):
    code = "grid_clipped"


class CalibrateError(ModelsError):
    code = "calibrate_error"


class PromiseNotOffered(CalibrateError):
    code = "promise_not_offered"


class OutcomesMissing(CalibrateError):
    code = "outcomes_missing"


class TooFewSamples(CalibrateError):
    code = "too_few_samples"


class ConstantScore(CalibrateError):
    code = "constant_score"


class LabelOutside(CalibrateError):
    code = "label_outside"


class RowsOverlap(CalibrateError):
    code = "rows_overlap"


class GroupsMixed(CalibrateError):
    code = "groups_mixed"


class EstimatorUnreadable(ModelsError):
    code = "estimator_unreadable"


class EstimatorUnsupported(ModelsError):
    code = "estimator_unsupported"


class DataError(ModelsError):
    code = "data_error"


class DataUnreadable(DataError):
    code = "data_unreadable"


class DataEmpty(DataError):
    code = "data_empty"


class ColumnUnknown(DataError):
    code = "column_unknown"


class RowUnreadable(DataError):
    code = "row_unreadable"


class BatchRunning(DataError):
    code = "batch_running"
