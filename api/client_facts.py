"""What both clients can tell of themselves without asking the server."""

from .address import Address


class ClientFacts:
    """A client's address, as it is shown; a key never is."""

    address: Address

    def __repr__(self) -> str:
        """Show where the server is."""
        return f"<{type(self).__name__} {self.address.shown}>"

    def _repr_html_(self) -> str:
        from .cards import client_card  # for notebooks only

        address = self.address
        has_key = address.api_key is not None
        return client_card(type(self).__name__, address.shown, has_key=has_key)
