"""Write the lists that are missing."""

from tests.models.keys import write

write()
