"""Support sentences with planted personal data and secrets, and clean ones that look like it.

All made up, from seeds. Half of the sentence templates (`ASIDE`) were put aside before the rules
were first run on the others; the test holds both halves to the same figures.
"""

from __future__ import annotations

import random
import string
from collections.abc import Callable, Iterator
from typing import NamedTuple

from dropforge.clean.redact.checks import iban, luhn, verhoeff
from dropforge.clean.redact.kinds import words

ALNUM = string.ascii_letters + string.digits


class Case(NamedTuple):
    kind: str
    value: str
    text: str


def _of(r: random.Random, alphabet: str, count: int) -> str:
    return "".join(r.choice(alphabet) for _ in range(count))


def _digits(r: random.Random, count: int) -> str:
    return _of(r, string.digits, count)


def _shaped(r: random.Random, shape: str) -> str:
    """9 is any digit, 8 one from 2 to 9, A a capital, everything else itself."""
    made = {
        "9": string.digits,
        "8": "23456789",
        "A": string.ascii_uppercase,
        "a": string.ascii_lowercase,
    }
    return "".join(r.choice(made.get(c, c)) for c in shape)


FIRST = words(
    "Anna John Maria Thomas Sofia Lucas Julia Michael Laura Peter Sarah David Elena"
    " Daniel Priya Rahul"
    " Camille Pierre José Lucía João Beatriz Giulia Marco Sanne Pieter Jürgen Katrin"
    " Agnieszka Oksana"
    " Mehmet Ayşe Yuki Chen Fatima Omar Björn Ingrid Siobhán Nkechi"
)
LAST = words(
    "Miller Schmidt García Rossi Dubois Silva Jansen Müller O'Connor Kowalski Nguyen Patel Sharma"
    " Fernández Moreau Ferreira Bianchi Visser Lindqvist Novák Yılmaz Tanaka Okafor MacLeod Weiss"
    " Hernandez Svensson Fischer Lefèvre Costa"
)


def name(r: random.Random) -> str:
    return f"{r.choice(FIRST)} {r.choice(LAST)}"


def first(r: random.Random) -> str:
    return r.choice(FIRST)


_HOSTS = ("mail", "post", "my-firm", "uni")
_ENDS = ("example.com", "example", "co.uk", "de", "com", "com.br", "info")


def email(r: random.Random) -> str:
    local = r.choice(["{a}.{b}", "{a}{n}", "{a}_{b}{n}", "{b}-{a}", "{a}.{b}+shop", "{n}{a}"])
    named = local.format(
        a=r.choice(["anna", "john", "maria", "pete", "lu", "k"]),
        b=r.choice(["miller", "garcia", "rossi"]),
        n=r.randrange(9999),
    )
    return f"{named}@{r.choice(_HOSTS)}.{r.choice(_ENDS)}"


def hidden_email(r: random.Random) -> str:
    local, domain = email(r).split("@")
    at = r.choice([" (at) ", "(at)", " [at] ", " @ ", "[at]", " at "])
    dot = " dot " if at == " at " else r.choice([" dot ", "(dot)", " [dot] ", "."])
    if dot == ".":
        at = r.choice([" (at) ", "(at)", " @ ", "[at]"])
    return (
        local
        + at
        + domain.replace("example", "mails")
        .replace(".mails.", ".")
        .replace("mails", "com")
        .replace(".", dot)
    )


def _shaped_phone(r: random.Random) -> str:
    kept = {"n": string.digits, "N": "23456789"}
    return "".join(r.choice(kept.get(c, c)) for c in r.choice(PHONES))


def phone(r: random.Random) -> str:
    return _shaped_phone(r)


PHONES = (
    "+1 (Nnn) Nnn-nnnn",
    "(Nnn) Nnn-nnnn",
    "Nnn-Nnn-nnnn",
    "Nnn.Nnn.nnnn",
    "+1NnnNnnnnnn",
    "+49 30 Nnnnnnnn",
    "+49 (0)171 Nnnnnnn",
    "0171 Nnnnnnn",
    "030/Nnnnnnn",
    "089 Nn nn nn",
    "0049 30 Nnnnnnn",
    "+44 20 7nnn nnnn",
    "07700 nnnnnn",
    "020 7nnn nnnn",
    "0161 496 0nnn",
    "+44 7700 nnnnnn",
    "+33 6 Nn nn nn nn",
    "06 Nn nn nn nn",
    "01.Nn.nn.nn.nn",
    "+33 1 Nn nn nn nn",
    "+34 6Nn nnn nnn",
    "6Nn nnn nnn",
    "91 Nnn nn nn",
    "+34 91 Nnn nn nn",
    "+55 11 9Nnnn-nnnn",
    "(11) 9Nnnn-nnnn",
    "(21) Nnnn-nnnn",
    "+351 91N nnn nnn",
    "+39 347 Nnnnnnn",
    "347 Nnn nnnn",
    "06 Nnnn nnnn",
    "+39 06 Nnnn nnnn",
    "+31 6 Nnnnnnnn",
    "06-Nnnnnnnn",
    "020 Nnn nnnn",
    "+91 9Nnnn nnnnn",
    "9Nnnn nnnnn",
    "9Nnnnnnnnn",
    "+61 40N nnn nnn",
    "040N nnn nnn",
    "+81 90-Nnnn-nnnn",
    "+86 138 Nnnn nnnn",
    "+48 60N nnn nnn",
    "+41 44 Nnn nn nn",
    "+46 70 Nnn nn nn",
    "+90 532 Nnn nn nn",
    "+234 803 Nnn nnnn",
    "+52 55 Nnnn nnnn",
)


def card(r: random.Random) -> str:
    start, length = r.choice(
        [("4", 16), ("51", 16), ("55", 16), ("2221", 16), ("34", 15), ("37", 15), ("6011", 16)]
    )
    body = start + _digits(r, length - 1 - len(start))
    number = next(body + c for c in string.digits if luhn(body + c))
    if length == 15:
        return r.choice([number, f"{number[:4]} {number[4:10]} {number[10:]}"])
    four = [number[i : i + 4] for i in range(0, 16, 4)]
    return r.choice([number, " ".join(four), "-".join(four)])


def account(r: random.Random) -> str:
    country, shape = r.choice(
        [
            ("DE", "9" * 18),
            ("FR", "9" * 23),
            ("GB", "AAAA" + "9" * 14),
            ("ES", "9" * 20),
            ("NL", "AAAA" + "9" * 10),
            ("IT", "A" + "9" * 22),
            ("AT", "9" * 16),
            ("PT", "9" * 21),
            ("NO", "9" * 11),
            ("CH", "9" * 17),
            ("PL", "9" * 24),
        ]
    )
    body = _shaped(r, shape)
    number = next(n for c in range(100) if iban(n := f"{country}{c:02}{body}"))
    spaced = " ".join(number[i : i + 4] for i in range(0, len(number), 4))
    return r.choice([number, spaced, spaced, number.lower(), spaced.lower()])


def aadhaar(r: random.Random) -> str:
    body = _shaped(r, "8" + "9" * 10)
    n = next(body + c for c in string.digits if verhoeff(body + c))
    return r.choice([n, f"{n[:4]} {n[4:8]} {n[8:]}", f"{n[:4]}-{n[4:8]}-{n[8:]}"])


def aadhaar_spaced(r: random.Random) -> str:
    n = aadhaar(r).replace(" ", "").replace("-", "")
    return f"{n[:4]} {n[4:8]} {n[8:]}"


def ssn(r: random.Random) -> str:
    return f"{r.randrange(1, 666):03}-{r.randrange(1, 100):02}-{r.randrange(1, 10000):04}"


def nino(r: random.Random) -> str:
    packed = r.choice("ABCEHJLMPRSW") + r.choice("ABCEHJLMPRSW") + _digits(r, 6) + r.choice("ABCD")
    return r.choice([packed, f"{packed[:2]} {packed[2:4]} {packed[4:6]} {packed[6:8]} {packed[8]}"])


def pan(r: random.Random) -> str:
    return _of(r, string.ascii_uppercase, 3) + r.choice("PCHF") + _shaped(r, "A9999A")


def ip(r: random.Random) -> str:
    if r.random() < 0.6:
        return f"{r.randrange(11, 224)}.{r.randrange(256)}.{r.randrange(256)}.{r.randrange(1, 255)}"
    if r.random() < 0.5:
        return ":".join(f"{r.randrange(1, 65536):x}" for _ in range(8))
    return f"2001:db8::{r.randrange(16, 65536):x}:{r.randrange(16, 65536):x}"


def mac(r: random.Random) -> str:
    return (
        r.choice(":-").join(f"{r.randrange(256):02x}" for _ in range(6)).upper()
        if r.random() < 0.5
        else ":".join(f"{r.randrange(256):02x}" for _ in range(6))
    )


def birth(r: random.Random) -> str:
    d, m, y = r.randrange(1, 29), r.randrange(1, 13), r.randrange(1940, 2006)
    return r.choice(
        [
            f"{d:02}/{m:02}/{y}",
            f"{d}.{m}.{y}",
            f"{y}-{m:02}-{d:02}",
            f"{d:02}-{m:02}-{y}",
            f"{d:02}/{m:02}/{y % 100:02}",
        ]
    )


def birth_words(r: random.Random) -> str:
    d, y = r.randrange(1, 29), r.randrange(1940, 2006)
    month = r.choice(["January", "March", "June", "Sept.", "Nov", "December"])
    return r.choice(
        [f"{d} {month} {y}", f"{month} {d}, {y}", f"{d}th {month} {y}", f"{month} {d} {y}"]
    )


def password(r: random.Random) -> str:
    return r.choice(
        [
            r.choice(["summer", "Dragon", "hunter", "Berlin", "qwerty"])
            + str(r.randrange(10, 9999))
            + r.choice(["", "!", "$"]).replace("!", "#"),
            _of(r, ALNUM, 6) + r.choice("#$%&*@") + _digits(r, 2),
            r.choice(["let.me-in_", "P@ss", "x&y*z"]) + _digits(r, 3),
        ]
    )


def username(r: random.Random) -> str:
    return (
        r.choice(["anna", "max", "lucky", "blue"])
        + r.choice(["_", ".", "", "-"])
        + r.choice(["fox", "rider", "star"])
        + str(r.randrange(1, 999))
    )


def api_key(r: random.Random) -> str:
    b64 = ALNUM
    return r.choice(
        [
            "sk-" + _of(r, b64, 48),
            "sk-proj-" + _of(r, b64, 40),
            "sk-ant-api03-" + _of(r, b64 + "-_", 60),
            "sk_live_" + _of(r, b64, 24),
            "rk_live_" + _of(r, b64, 24),
            "pk_test_" + _of(r, b64, 24),
            "ghp_" + _of(r, b64, 36),
            "github_pat_" + _of(r, b64 + "_", 60),
            "glpat-" + _of(r, b64, 20),
            "xoxb-" + _digits(r, 12) + "-" + _of(r, b64, 24),
            "AIza" + _of(r, b64 + "-_", 35),
            "hf_" + _of(r, b64, 34),
            "npm_" + _of(r, b64, 36),
            "pypi-AgEIcHlwaS5vcmc" + _of(r, b64, 60),
            "AC" + _of(r, "0123456789abcdef", 32),
            "SG." + _of(r, b64, 22) + "." + _of(r, b64, 43),
            "whsec_" + _of(r, b64, 32),
        ]
    )


def plain_key(r: random.Random) -> str:
    return _of(r, "0123456789abcdef", 32) if r.random() < 0.5 else _of(r, ALNUM, 20) + "7a"


def aws_id(r: random.Random) -> str:
    return r.choice(["AKIA", "ASIA"]) + _of(r, string.ascii_uppercase + "234567", 16)


def aws_secret(r: random.Random) -> str:
    return _of(r, ALNUM + "/+", 37) + "aZ4"


def token(r: random.Random) -> str:
    return f"eyJ{_of(r, ALNUM, 30)}.eyJ{_of(r, ALNUM, 60)}.{_of(r, ALNUM + '-_', 43)}"


def bearer(r: random.Random) -> str:
    return _of(r, ALNUM, 38) + "4x"


def pem(r: random.Random) -> str:
    sort = r.choice(["RSA ", "", "EC ", "OPENSSH "])
    body = "\n".join(_of(r, ALNUM + "+/", 64) for _ in range(4))
    return f"-----BEGIN {sort}PRIVATE KEY-----\n{body}\n-----END {sort}PRIVATE KEY-----"


def credentials(r: random.Random) -> str:
    return f"{r.choice(['admin', 'root', 'shop', 'svc-app'])}:{_of(r, ALNUM + '!$', 10)}"


_W = [
    "Oak",
    "Maple",
    "Church",
    "High",
    "Victoria",
    "Station",
    "Mill",
    "King George",
    "North Elm",
    "Lincoln",
]


def address_en(r: random.Random) -> str:
    street = r.choice(
        [
            "Street",
            "Road",
            "Avenue",
            "Ave",
            "Lane",
            "Drive",
            "Blvd",
            "St",
            "Court",
            "Close",
            "Rd",
            "Way",
        ]
    )
    return f"{r.randrange(1, 2999)} {r.choice(_W)} {street}"


_GERMAN = ("Linden", "Haupt", "Goethe", "Bahnhof")
_SORTS = ("straße", "str.", "weg", "platz", "allee")


def address_eu(r: random.Random) -> str:
    n = r.randrange(1, 199)
    return r.choice(
        [
            f"{r.choice(_GERMAN)}{r.choice(_SORTS)} {n}",
            f"{n} rue {r.choice(['de la Paix', 'Victor Hugo', 'des Lilas'])}",
            f"{n} avenue {r.choice(['Jean Jaurès', 'de Paris'])}",
            f"Calle {r.choice(['Mayor', 'de Alcalá', 'Gran Vía'])} {n}",
            f"Rua {r.choice(['Augusta', 'das Flores'])}, {n}",
            f"Via {r.choice(['Roma', 'Giuseppe Verdi'])} {n}",
            f"{r.choice(['Kerk', 'Molen', 'Dorps'])}straat {n}",
            f"Avenida {r.choice(['Paulista', 'de América'])} {n}",
        ]
    )


def postcode(r: random.Random) -> str:
    return _shaped(r, r.choice(["89999", "AA9 9AA", "A9A 9A9", "89999-999", "8999 AA", "AA99 9AA"]))


Make = Callable[[random.Random], str]
# kind -> (how its value is made, sentences to work with, sentences put aside)
TEMPLATES: dict[str, list[tuple[Make, list[str], list[str]]]] = {
    "EMAIL": [
        (
            email,
            [
                "My e-mail is {}.",
                "Please write to {} instead",
                "Ich habe mich mit {} registriert.",
                "Mon adresse est {}, merci",
                "Mi correo es {}",
            ],
            [
                "You can reach me at {}!",
                "account: {}",
                "La mia mail è {}; grazie",
                "<{}> is what I used",
                "meu email ({}) não funciona",
                "({})",
            ],
        ),
        (
            hidden_email,
            ["write me: {} please", "My mail is {}, thanks"],
            ["Reach me under {} any time", "Adresse: {}"],
        ),
    ],
    "PHONE": [
        (
            phone,
            [
                "Please call me at {}.",
                "My number is {}, thanks",
                "Meine Telefonnummer ist {}",
                "Mon numéro : {}",
                "Mi teléfono es el {}",
                "Tel: {}",
            ],
            [
                "you can reach me on {} after 5 pm",
                "Ruf mich bitte unter {} an",
                "o meu telemóvel é {}",
                "Il mio cellulare: {}",
                "Mobile {} (evenings)",
                "I did not get the text on {}.",
                "Bel mij op {}",
                "Kontakt: {}",
            ],
        ),
    ],
    "CARD": [
        (
            card,
            [
                "I paid with {}",
                "Card number {} exp 12/27",
                "Meine Kreditkarte {} wurde belastet",
                "Mi tarjeta es {}.",
            ],
            [
                "charge it to {} please",
                "ma carte {} a été débitée deux fois",
                "Visa: {}",
                "o cartão {} foi recusado",
            ],
        ),
    ],
    "IBAN": [
        (
            account,
            [
                "My IBAN is {}",
                "Bitte überweisen Sie auf {}.",
                "Refund to {} please",
                "IBAN: {}, danke",
            ],
            [
                "mon compte {} svp",
                "Mi cuenta: {}",
                "please wire it to {} today",
                "Il mio IBAN è {} grazie",
            ],
        ),
    ],
    "SSN": [
        (
            ssn,
            ["My SSN is {}", "Social security number: {}"],
            ["it asks for my social, which is {}", "I entered {} and it failed"],
        )
    ],
    "NINO": [
        (
            nino,
            ["My NI number is {}", "National insurance no. {}"],
            ["I gave {} on the form", "NINO: {}"],
        )
    ],
    "PAN": [
        (
            pan,
            ["My PAN is {}", "PAN card no: {}"],
            ["invoice needs {} on it", "Please update PAN {}."],
        )
    ],
    "AADHAAR": [
        (
            aadhaar,
            ["My Aadhaar is {}", "Aadhaar number: {}"],
            ["Linked aadhar {} with my account", "aadhaar card no {} not accepted"],
        ),
        (aadhaar_spaced, ["I uploaded {} already"], ["verify {} please"]),
    ],
    "IP": [
        (
            ip,
            ["My IP is {}", "Login from {} was not me", "blocked: {}"],
            ["we see requests from {} again", "Server {} antwortet nicht", "IP address {}"],
        )
    ],
    "MAC": [
        (
            mac,
            ["The MAC address is {}", "device {} offline"],
            ["router shows {} as unknown", "MAC: {}"],
        )
    ],
    "BIRTHDATE": [
        (
            birth,
            [
                "My date of birth is {}",
                "DOB: {}",
                "geboren am {}",
                "Ma date de naissance : {}",
                "Fecha de nacimiento: {}",
            ],
            [
                "I was born on {}",
                "D.O.B. {}",
                "Geburtsdatum {}",
                "data de nascimento é {}",
                "data di nascita: {}",
                "geboortedatum: {}",
                "born {}",
            ],
        ),
        (
            birth_words,
            ["I was born on {}", "Date of birth: {}"],
            ["my birthday is {}", "DOB is {}"],
        ),
    ],
    "PASSWORD": [
        (
            password,
            [
                "My password is {}",
                "password: {}",
                "Passwort: {}",
                "mot de passe : {}",
                "mi contraseña es {}",
                "pwd={}",
            ],
            [
                "I set my password to {} yesterday",
                "the password was {} before",
                "Mein Passwort lautet {}",
                "minha senha é {}",
                "Kennwort: {}",
                "wachtwoord is {}",
                'temporary password "{}"',
                "login with passcode {}",
                "pass: {}",
                "password for my account: {}",
            ],
        ),
    ],
    "USERNAME": [
        (
            username,
            [
                "My username is {}",
                "Username: {}",
                "user name: {}",
                "Benutzername: {}",
                "mi usuario es {}",
                "login: {}",
            ],
            [
                "my user id is {}",
                "Nom d'utilisateur : {}",
                "gebruikersnaam: {}",
                "telegram @{}",
                "My handle is @{}",
                "discord: {}",
                "nickname {}",
            ],
        ),
    ],
    "API_KEY": [
        (
            api_key,
            [
                "Here is my key {}",
                "I use {} in production",
                "api_key={}",
                "der Schlüssel {} geht nicht",
            ],
            [
                "export KEY={}",
                "Authorization fails with {}.",
                "la clé {} ne marche pas",
                'config: "{}"',
            ],
        ),
        (
            plain_key,
            ["api_key={}", "API key: {}", "secret: {}"],
            ['client_secret = "{}"', "my api key is {}", "'apikey': '{}'", "X-API-Key: {}"],
        ),
    ],
    "AWS_KEY": [
        (
            aws_id,
            ["key {} ok", "aws_access_key_id={}"],
            ["I leaked {} on a forum", "Access key: {}"],
        ),
        (
            aws_secret,
            ["aws_secret_access_key={}", "AWS secret access key: {}"],
            ["the aws key is {} I think", "secret_access_key = '{}'"],
        ),
    ],
    "TOKEN": [
        (token, ["token {} expired", "Authorization: Bearer {}"], ["I get 401 with {}", "jwt={}"]),
        (
            bearer,
            ["Authorization: Bearer {}", "access_token={}"],
            ["-H 'authorization: bearer {}'", "my token is {}"],
        ),
    ],
    "PRIVATE_KEY": [
        (pem, ["my key:\n{}\nit fails", "{}"], ["What is wrong with\n{}", "see {} thanks"])
    ],
    "CREDENTIALS": [
        (
            credentials,
            ["postgres://{}@db.example.com:5432/shop", "it uses https://{}@git.example.com/repo"],
            [
                "redis://{}@cache.example.net/0 refuses",
                "MONGO=mongodb+srv://{}@cluster0.example.net/test",
                "ftp://{}@files.example.org",
            ],
        ),
    ],
    "ADDRESS": [
        (
            address_en,
            [
                "Please ship it to {}.",
                "I live at {}, Springfield",
                "My address is {}",
                "deliver to {}, London",
            ],
            [
                "my new address: {}",
                "it went to {} instead",
                "Send the replacement to {} please",
                "Billing address\n{}\nBoston",
            ],
        ),
        (
            address_eu,
            ["Meine Adresse: {}", "address: {}", "Envíen a {} por favor"],
            ["Ich wohne jetzt in der {}.", "J'habite au {}", "abito in {}", "Levering op {} graag"],
        ),
        (postcode, ["My postcode is {}", "zip code: {}"], ["ZIP {}", "postal code {} please"]),
    ],
    "NAME": [
        (
            name,
            [
                "My name is {}.",
                "Dear {},\nthank you",
                "Hello {}, how can I help?",
                "Mein Name ist {}.",
                "Je m'appelle {}",
                "Me llamo {}",
                "It does not work.\nBest regards,\n{}",
                "Name: {}",
            ],
            [
                "Hi, my name is {} and I ordered a lamp",
                "Sehr geehrte Frau {},",
                "Estimado {}: gracias",
                "Meu nome é {}",
                "Mi chiamo {}",
                "ik heet {}",
                "Full name: {}",
                "Bitte helfen.\nMit freundlichen Grüßen\n{}",
                "Merci.\nCordialement,\n{}",
                "Mr. {} called",
                "Thanks in advance,\n{}",
                "Good morning {},\nyour parcel left.",
            ],
        ),
        (
            first,
            ["Hi {},", "Dear {}, we are sorry", "Hallo {},\nvielen Dank", "Thanks,\n{}"],
            [
                "Hello {}! Your order is on its way",
                "Hey {}.",
                "Bonjour {},",
                "Hola {}, gracias",
                "Ciao {}!",
                "Where is it?\nCheers, {}",
                "Olá {},",
            ],
        ),
    ],
}


def positives(kind: str, count: int, aside: bool, seed: int = 7) -> Iterator[Case]:
    """Sentences with one planted value each, all templates in turn."""
    r = random.Random(f"{kind} {aside} {seed}")
    groups = TEMPLATES[kind]
    for i in range(count):
        make, known, kept = groups[i % len(groups)]
        sentences = kept if aside else known
        value = make(r)
        yield Case(kind, value, sentences[i // len(groups) % len(sentences)].replace("{}", value))


def _uuid(r: random.Random) -> str:
    return "-".join(_of(r, "0123456789abcdef", n) for n in (8, 4, 4, 4, 12))


_THINGS = [
    "Galaxy S24",
    "iPhone 15 Pro",
    "Dyson V11",
    "LX-40 lamp",
    "RTX 4090",
    "Nutri Pro 900",
    "MacBook Air 13",
    "AirPods Max",
]
NEGATIVES: list[tuple[str, Callable[[random.Random], str]]] = [
    (
        "My order number is {}.",
        lambda r: _shaped(
            r,
            r.choice(
                [
                    "999-9999999-9999999",
                    "9999999999",
                    "#9999999",
                    "A-9999999",
                    "9999 9999 9999",
                    "ORD-99999999",
                    "999999999999",
                    "#1999-999-9999",
                ]
            ),
        ),
    ),
    (
        "Bestellnummer {} fehlt",
        lambda r: _shaped(r, r.choice(["9999999999", "999-9999999", "99 9999 9999"])),
    ),
    (
        "tracking number {}, no update",
        lambda r: _shaped(
            r,
            r.choice(
                [
                    "1Z999AA99999999999",
                    "9999 9999 9999 9999 9999 99",
                    "999999999999",
                    "AA999999999AA",
                    "00999999999999999999",
                    "8999999999",
                    "9999 9999 9999",
                ]
            ),
        ),
    ),
    (
        "Votre colis {} est en route",
        lambda r: _shaped(r, r.choice(["9A99999999999", "99999999999999"])),
    ),
    (
        "El pedido {} no ha llegado",
        lambda r: _shaped(r, r.choice(["99999999", "ES-9999-9999", "9999999999"])),
    ),
    (
        "I ordered it on {} and paid",
        lambda r: r.choice(
            [
                "2025-03-01",
                "03/04/2025",
                "1.4.2025",
                "12 March 2025",
                "2025-11-02 10:30:45",
                "05-06-2025",
            ]
        ),
    ),
    (
        "It costs {} in your shop",
        lambda r: r.choice(
            [
                "$1,299.00",
                "€27.50",
                "1.299,00 €",
                "£1,000,000",
                "Rs. 12,499",
                "₹1299",
                "129.99 USD",
                "1 299,00 zł",
            ]
        ),
    ),
    (
        "version {} is installed",
        lambda r: f"{r.randrange(20)}.{r.randrange(20)}.{r.randrange(20)}.{r.randrange(300)}",
    ),
    (
        "firmware {} does not boot",
        lambda r: f"v{r.randrange(9)}.{r.randrange(9)}.{r.randrange(99)}",
    ),
    (
        "serial number {} on the back",
        lambda r: _shaped(
            r,
            r.choice(
                ["AA99999999", "9999999999", "C02AA99AA99A", "9999-9999-9999", "SN99999999999"]
            ),
        ),
    ),
    (
        "SKU {} is out of stock",
        lambda r: _shaped(
            r, r.choice(["AA-9999-AA", "999-999-9999", "9999999999999", "AB12-99999"])
        ),
    ),
    ("IMEI {} is blocked", lambda r: _shaped(r, "35999999999999" + "9")),
    ("The request id is {}", _uuid),
    ("commit {} broke it", lambda r: _of(r, "0123456789abcdef", 40)),
    ("ISBN {} is the book", lambda r: _shaped(r, r.choice(["978-9-99-999999-9", "9789999999999"]))),
    ("The {} arrived broken", lambda r: r.choice(_THINGS)),
    (
        "Dear {},\nwe are sorry to hear that.",
        lambda r: r.choice(
            ["Customer", "Sir or Madam", "valued customer", "Team", "all", "Support"]
        ),
    ),
    (
        "Hi {}, where is my parcel?",
        lambda r: r.choice(["there", "team", "all", "everyone", "Support", "guys", "again"]),
    ),
    ("Hallo {}, ich warte noch.", lambda r: r.choice(["zusammen", "Team", "liebes Team"])),
    (
        "Hello, I am {} with this",
        lambda r: r.choice(
            ["unhappy", "Very unhappy", "not pleased", "done", "still waiting", "Not satisfied"]
        ),
    ),
    (
        "This is {}!",
        lambda r: r.choice(
            ["Ridiculous", "a joke", "unacceptable", "the third time", "Not OK", "Amazing"]
        ),
    ),
    (
        "Thanks {}",
        lambda r: r.choice(
            ["a lot!", "for your help.", "in advance", "so much", "Team!", "and bye"]
        ),
    ),
    (
        "my password is {}",
        lambda r: r.choice(
            [
                "wrong",
                "not accepted",
                "rejected every time",
                "forgotten",
                "too short",
                "expired",
                "case sensitive?",
            ]
        ),
    ),
    (
        "password {}",
        lambda r: r.choice(
            [
                "required!",
                "reset link does not come",
                "must have 8 characters",
                "change failed",
                "reset: click the link",
            ]
        ),
    ),
    (
        "my username is {}",
        lambda r: r.choice(
            ["not recognised", "already taken", "wrong", "the same as before", "blocked"]
        ),
    ),
    (
        "the api key {}",
        lambda r: r.choice(["is invalid", "expired", "page is empty", "was rotated yesterday"]),
    ),
    ("Product name: {}", lambda r: r.choice(["Aurora Lamp", "Nordic Chair", "Blue Mug"])),
    (
        "It was on at {} and then again",
        lambda r: r.choice(["10:30:45", "7:05", "18:00-19:30", "00:00:00"]),
    ),
    (
        "The size is {}",
        lambda r: r.choice(["120 x 80 x 45 cm", "100-200-300", "12.5 x 33.3", "1920x1080"]),
    ),
    ("use {} in C++", lambda r: r.choice(["std::vector", "a::b", "Foo::bar()", "::before"])),
    ("gift card {} is empty", lambda r: _shaped(r, r.choice(["AAAA-9999-AAAA", "A9A9-A9A9-A9A9"]))),
    (
        "invoice {} is wrong",
        lambda r: _shaped(
            r, r.choice(["INV-2025-99999", "2025/99999", "9999999999", "RE 2025 99999"])
        ),
    ),
    ("I have called {} times", lambda r: r.choice(["3", "10", "2 or 3", "a dozen"])),
    ("wait {} on the street", lambda r: r.choice(["2 days", "10 minutes", "4 hours"])),
    (
        "The {} in 24-48 hours or 7-10 days",
        lambda r: r.choice(["refund comes", "parcel leaves", "money is back"]),
    ),
    ("from {} seasons", lambda r: r.choice(["2019-2020 to 2023-2024", "1999/2000", "2010 - 2012"])),
    ("We meet @ {}", lambda r: r.choice(["noon", "the shop", "5 pm", "home"])),
    (
        "part {} fits, see page 12",
        lambda r: _shaped(r, r.choice(["99-9999-99", "A99.999.99", "999.999.99", "9.999.999"])),
    ),
    ("ticket #{} was closed", lambda r: _digits(r, r.choice([5, 7, 10]))),
    ("Coordinates {}", lambda r: f"{r.uniform(0, 90):.6f}, {r.uniform(0, 180):.6f}"),
    (
        "transaction {} failed",
        lambda r: _shaped(
            r, r.choice(["999999999999", "T9999999999999999", "pi_AAAA", "9999999999999999"])
        ),
    ),
    ("Regards", lambda r: ""),
    ("I was born for this {}", lambda r: r.choice(["job", "game", "moment"])),
    ("Bluetooth 5.3, {} channels, 10.1 inch", lambda r: str(r.randrange(2, 9))),
    ("The key {} is stuck on the keyboard", lambda r: r.choice(["Enter", "F12", "Escape", "W"])),
    ("the token {} was not accepted", lambda r: r.choice(["field", "page", "again"])),
    ("A customer on Main Street said {} things", lambda r: str(r.randrange(2, 20))),
]


def negatives(count: int, seed: int = 11) -> Iterator[str]:
    """Clean sentences that look as if they held something."""
    r = random.Random(seed)
    for i in range(count):
        template, make = NEGATIVES[i % len(NEGATIVES)]
        yield template.replace("{}", make(r))
