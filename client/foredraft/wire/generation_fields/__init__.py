"""The table of all generation fields: one declaration each, from which everything else is made.

`make generated` makes the GenerationConfig of the SDK and of the protobuf file, and docs/fields.md.
At run time the table feeds reading and writing messages, the defaults and checks of the target, and
the engine's `Sampling`. docs/adding-a-field.md shows how a field is added.
"""

from foredraft.wire.generation_fields.additions import ADDITIONS
from foredraft.wire.generation_fields.drafting import DRAFTING
from foredraft.wire.generation_fields.lengths import LENGTHS
from foredraft.wire.generation_fields.others import OTHERS
from foredraft.wire.generation_fields.processors import PROCESSORS
from foredraft.wire.generation_fields.sampling import SAMPLING
from foredraft.wire.generation_fields.searches import SEARCHES

GENERATION_FIELDS = {
    field.name: field
    for field in (
        *LENGTHS,
        *SAMPLING,
        *PROCESSORS,
        *DRAFTING,
        *SEARCHES,
        *OTHERS,
        *ADDITIONS,
    )
}
"""All generation fields by name, in the order of their numbers."""
