"""The login page: exchanges a token for a cookie, and ends the login."""

from __future__ import annotations

from aiohttp import web

from triggerstream.web import answers
from triggerstream.web.access import CALLER, COOKIE, Access
from triggerstream.web.answers import RefusedError
from triggerstream.web.logins import LOGGED_IN_S


class LoginPage:
    """Handlers of the login form."""

    def __init__(self, access: Access) -> None:
        self._access = access

    async def page(self, request: web.Request) -> web.StreamResponse:
        """The form for a token."""
        return self._page(request, to=request.query.get("to", ""))

    async def enter(self, request: web.Request) -> web.StreamResponse:
        """Exchange the token of the form for a cookie."""
        form = await answers.form_of(request)
        self._refuse_others(request, form.get("form"))
        to = form.get("to", "")
        try:
            token = self._access.known_token(request, form.get("token", "").strip())
        except RefusedError as exc:
            page = self._page(request, to=to, says=f"{str(exc).capitalize()}.", status=exc.status)
            page.headers.update(exc.headers)
            return page
        if token is None:
            return self._page(request, to=to, says="There is no such token.", status=403)
        answer = answers.see_other(to if _is_ours(to) else "/")
        answer.set_cookie(
            COOKIE,
            self._access.logins.issue(token),
            max_age=LOGGED_IN_S,
            httponly=True,
            samesite="Strict",
            secure=self._access.is_secure(request),
        )
        return answer

    async def leave(self, request: web.Request) -> web.StreamResponse:
        """End the login of the cookie, and delete the cookie."""
        form = await answers.form_of(request)
        self._refuse_others(request, form.get("form"))
        if (caller := request.get(CALLER)) is not None and caller.logged_in:
            self._access.logins.end(request.cookies[COOKIE])
        answer = answers.see_other("/login")
        secure = self._access.is_secure(request)
        answer.del_cookie(COOKIE, httponly=True, samesite="Strict", secure=secure)
        return answer

    def _refuse_others(self, request: web.Request, key: object) -> None:
        if not self._access.is_our_form(request, str(key)):
            raise RefusedError(403, "this form is from another page, or too old: open it again")

    def _page(
        self, request: web.Request, *, to: str, says: str | None = None, status: int = 200
    ) -> web.Response:
        values: dict[str, object] = {
            "nav": False,
            "may_leave": False,
            "says": says,
            "to": to,
            "form_key": self._access.form_key(request),
        }
        return answers.html("login", values, status=status)


def _is_ours(to: str) -> bool:
    """True if ``to`` is a path of this server that no browser takes for another host's."""
    return to.startswith("/") and not to.startswith(("//", "/\\")) and to.isprintable()
