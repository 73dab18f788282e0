"""The word lists that demo tasks are composed from.

Knows words and sentence patterns only; what is drawn from them, and how, is `demo_tasks`.
A pattern's {braces} are filled in there.
"""


def _words(text: str) -> tuple[str, ...]:
    """Split a list written as prose, one entry between blanks."""
    return tuple(text.split())


def _listed(text: str) -> tuple[str, ...]:
    """Split a list written with commas, for entries of several words."""
    return tuple(" ".join(entry.split()) for entry in text.split(","))


def _phrases(text: str) -> tuple[str, ...]:
    """Split a list written one entry per line."""
    return tuple(line.strip() for line in text.strip().splitlines())


FIRST_NAMES = _words("""
    Ada Ahmed Aiko Alba Alice Amir Amara Ana Andrei Anita Anton Arjun Astrid Ayla Ben Bianca Bruno
    Carla Carlos Chen Chloe Clara Daniel David Diego Dina Elena Elias Emma Erik Esther Eva Fatima
    Felix Fiona Frida George Grace Greta Hana Hassan Helen Henrik Hugo Ida Igor Imani Ines Ingrid
    Isaac Ivan James Jamila Jana Javier Jing Joao Johan José Julia Kai Karim Kenji Kofi Lars Laura
    Layla Leon Lena Linh Liam Lucia Lukas Maja Marco Maria Marta Mateo Maya Mei Milan Mina Nadia
    Naomi Nia Nikolai Nina Noah Nora Olga Oliver Omar Oscar Paula Pedro Petra Priya Rafael Rania
    Ravi Rosa Ruth Samir Sara Sofia Stefan Tara Theo Thomas Tomas Uma Vera Victor Wanjiru Wei Yara
    Yusuf Zara Zoë
""")

LAST_NAMES = _words("""
    Abebe Adeyemi Ahmadi Almeida Andersen Bauer Becker Bianchi Brandt Brown Carter Castro Chang
    Clarke Cohen Costa Dahl Diaz Dubois Duarte Eriksen Evans Farah Fernandes Ferrari Fischer Flores
    Fofana Foster Garcia Gomez Greco Gupta Haddad Hansen Harris Hayes Hoffmann Horvath Hughes
    Ibrahim Ito Ivanov Jansen Jensen Johnson Kamau Kaya Keller Khan Kim Klein Kovacs Kumar Larsen
    Lehmann Lopez Lund Mancini Martin Mbeki Mendes Meyer Mills Moreau Moreno Morris Müller Murphy
    Nakamura Nelson Nguyen Novak Nowak Okafor Okoro Olsen Ortiz Osei Park Patel Pereira Petrov
    Popescu Quinn Ramos Reyes Ricci Rossi Sato Schmidt Schulz Sharma Silva Singh Smith Sousa Stone
    Suzuki Takeda Tanaka Torres Toure Turner Vargas Vogel Walker Wang Weber White Wood Yamada
    Yilmaz Young Zhang Zhou
""")

NAME_SYLLABLES = _words("""
    ba be bi bo bra bren cal can che cor da del dri do dun el en er fa fen fi for ga gar gil gor
    ha hel hin hu il is ja jen jo ka kel kin kor la lan len li lo lu ma mar mel min mo mur na nel
    ni nor nu o or pa per pin po ra ren ri ro ru sa sel shi sol su ta tal ten ti tor tu u ul va
    vel vin vo wen wil xan ya yel yo za zen zi zor
""")

CITIES = _listed("""
    Lisbon, Porto, Madrid, Seville, Paris, Lyon, Berlin, Hamburg, Munich, Vienna, Prague, Warsaw,
    Krakow, Budapest, Rome, Milan, Naples, Athens, Istanbul, Ankara, Cairo, Lagos, Accra, Nairobi,
    Cape Town, Casablanca, Dakar, Mumbai, Delhi, Chennai, Dhaka, Bangkok, Hanoi, Jakarta, Manila,
    Singapore, Hong Kong, Taipei, Seoul, Busan, Osaka, Kyoto, Tokyo, Sydney, Perth, Auckland,
    Toronto, Montreal, Vancouver, Boston, Chicago, Denver, Seattle, Austin, New York, San Diego,
    Mexico City, Bogota, Lima, Quito, Santiago, Buenos Aires, São Paulo, Oslo, Bergen, Stockholm,
    Malmö, Helsinki, Copenhagen, Dublin, Cork, London, Leeds, Glasgow, Brussels, Ghent, Utrecht,
    Zürich, Geneva
""")

CITY_SYLLABLES = _words("""
    al an bar bel ber bor bru cam car cas dor dra el fal fer fin gal gra hal har kar kol lan lor
    mal mar mon mor nar nel nor ol os par pol ran ros sal san sel sor tan tar ter tor ul val var
    vel ver vil wes win yor zan
""")
CITY_ENDINGS = _words("berg burg dale field ford grad holm mouth port stad ton ville wick")

ADJECTIVES = _words("""
    red blue green yellow black white grey orange purple brown silver golden small large tall
    short wide narrow heavy light soft round square folding wooden metal glass leather cotton paper
    plastic ceramic striped plain bright dark warm cheap simple modern
""")

ITEMS = _words("""
    lamps chairs tables desks shelves mirrors clocks rugs curtains cushions blankets pillows towels
    candles vases bowls plates cups mugs spoons knives forks kettles pans pots baskets boxes bags
    backpacks suitcases umbrellas hats scarves gloves jackets shirts socks boots sandals belts
    watches rings notebooks pens pencils brushes posters frames puzzles kites drums guitars flutes
    bicycles helmets tents ropes buckets ladders hammers radios cameras batteries chargers keyboards
    cables
""")

NUMBER_WORDS = _words("zero one two three four five six seven eight nine ten eleven twelve")

DEADLINES = _listed("""
    by Monday, by Tuesday, by Wednesday, by Thursday, by Friday, by Saturday, by Sunday, by
    tomorrow, by next week, by noon, before 5 May, before 12 June, before 27 July, before 30 August,
    before the holidays, within 2 days, within 3 days, within 10 days, as soon as possible, this
    month
""")

EXTRACT_PHRASINGS = _phrases("""
    Extract the order: {order}
    Extract the order as JSON: {order}
    Extract: {order}
    Turn this order into JSON: {order}
    Return the order in this message as JSON. {order}
    Read the message and give the order as JSON. Message: {order}
    What is ordered here? Answer in JSON: {order}
    {order} Extract the order.
    {order} Give the order as JSON.
""")

ORDER_PHRASINGS = _phrases("""
    {customer} wants {quantity} {item} shipped to {city} {deadline}.
    {customer} wants {quantity} {item} shipped to {city}.
    {customer} ordered {quantity} {item} for delivery to {city}.
    {customer} ordered {quantity} {item}. Deliver them to {city} {deadline}.
    {customer} would like {quantity} {item} sent to {city} {deadline}, please.
    {customer} from {city} needs {quantity} {item} {deadline}.
    {customer} in {city} is buying {quantity} {item}.
    {customer} asked for {quantity} {item}, to be delivered in {city} {deadline}.
    Please send {quantity} {item} to {customer} in {city}.
    Please send {quantity} {item} to {city} for {customer} {deadline}.
    Please ship {quantity} {item} to {city}. The customer is {customer}.
    We need {quantity} {item} in {city} {deadline}. The name is {customer}.
    Hello, this is {customer}. I need {quantity} {item} delivered to {city} {deadline}.
    Hi, I would like to order {quantity} {item}. Send them to {city}. Thanks, {customer}.
    My name is {customer} and I would like {quantity} {item} sent to {city}.
    Order for {customer}: {quantity} {item}, destination {city}, needed {deadline}.
    Customer: {customer}. Items: {quantity} {item}. City: {city}.
    Ship to {city} {deadline}: {quantity} {item} for {customer}.
    To {city}, {deadline}: {quantity} {item}, ordered by {customer}.
    {quantity} {item} for {customer}, {city}.
    {quantity} {item} must reach {city} {deadline}. {customer} is paying.
""")

TICKET_PHRASINGS = _phrases("""
    Classify the ticket: {ticket}
    Classify this support ticket: {ticket}
    Classify: {ticket}
    Which team should handle this ticket? {ticket}
    Give the category of this ticket. {ticket}
    Read the ticket and answer with its category. Ticket: {ticket}
    Ticket: {ticket} Category?
    {ticket} Classify this ticket.
""")

TICKET_PRODUCTS = _words("""
    lamp chair table desk mirror clock kettle backpack suitcase jacket watch notebook guitar bicycle
    helmet tent radio camera charger keyboard phone laptop printer speaker scanner toaster fridge
    heater vacuum drill
""")

TICKET_OPENINGS = _phrases("""
    Hello.
    Hi there.
    Good morning.
    Dear team,
    Hello, I need help.
    I have a question.
    This is urgent.
    I have been a customer for years.
    I wrote to you last week.
    I hope you can help me.
    My name is {name}.
    Hi, {name} here.
""")

TICKET_CLOSINGS = _phrases("""
    Thank you.
    Thanks, {name}.
    Please help.
    Please answer soon.
    Please call me back.
    What should I do?
    I am waiting for your reply.
    Kind regards, {name}.
    Can someone look at this today?
    I bought it {days} days ago.
    My reference is {reference}.
""")

TICKET_COMPLAINTS: dict[str, tuple[str, ...]] = {
    "billing": _phrases("""
        I was charged twice for the {product}.
        The invoice for my {product} shows the wrong amount.
        Why did you take {amount} euros from my card for a {product}?
        My credit card was declined when I paid for the {product}.
        I need a copy of the invoice for the {product}.
        The discount code was not applied to the price of the {product}.
        There is a fee of {amount} euros on my bill that I do not understand.
        You charged me {amount} euros too much for the {product}.
        Can I pay for the {product} in three instalments?
        The tax on the receipt for my {product} is wrong.
    """),
    "shipping": _phrases("""
        My {product} has not arrived yet.
        The parcel with my {product} is {days} days late.
        The tracking number for the {product} does not show anything.
        The courier left the {product} at the wrong address.
        When will the {product} be delivered?
        My {product} has been stuck at customs for {days} days.
        The package with the {product} was lost on the way.
        Can you send the {product} to a different address?
        Delivery of the {product} was promised for last week.
        The driver never came to deliver my {product}.
    """),
    "technical": _phrases("""
        The {product} does not turn on.
        My {product} stops working after {days} minutes.
        The {product} shows error {amount}.
        The {product} makes a strange noise.
        I cannot connect the {product} to the network.
        The update broke my {product}.
        The screen of the {product} stays black.
        My {product} crashes every time I start it.
        The battery of the {product} does not hold a charge.
        The app cannot find my {product}.
    """),
    "account": _phrases("""
        I forgot my password.
        I cannot log in to my profile.
        Please change the email address of my account.
        How do I delete my account?
        My account is locked after {days} wrong passwords.
        I want to change my user name to {name}.
        The confirmation email for my new account never came.
        Someone else has logged in to my account.
        How can I turn on two-factor login?
        I have two accounts and want to merge them.
    """),
    "returns": _phrases("""
        I want to return the {product}.
        How do I send the {product} back?
        The {product} is the wrong colour and I would like to exchange it.
        Can I get my money back for the {product}?
        I changed my mind and do not want the {product} any more.
        Please send me a return label for the {product}.
        The {product} does not fit, so I want a refund.
        Is it too late to return a {product} after {days} days?
        I returned the {product} and still wait for the refund of {amount} euros.
        I would like to swap the {product} for a larger one.
    """),
    "praise": _phrases("""
        I love my new {product}.
        The {product} is the best I have ever had.
        Your team was very kind when I bought the {product}.
        Great service and a wonderful {product}.
        I am very happy with the {product}.
        The {product} works perfectly, well done.
        I will tell all my friends about this {product}.
        Five stars for the {product}.
        My whole family enjoys the {product}.
        What a beautiful {product} you make.
    """),
}

SUM_PHRASINGS = _phrases("""
    What is {a} + {b}?
    What is {a} plus {b}?
    {a} + {b} =
    {a} + {b}
    Add {a} and {b}.
    Compute {a} + {b}.
    How much is {a} + {b}?
    What is the sum of {a} and {b}?
""")

ANIMALS = _words("""
    fox owl bear rabbit hedgehog otter mouse cat dog goat sheep horse donkey duck goose swan crow
    frog turtle snail squirrel badger beaver deer wolf lion elephant monkey penguin whale
""")

PLACES = _listed("""
    the forest, the garden, the mountains, the desert, the valley, the harbour, the village, the
    city, the old mill, the library, the lighthouse, the meadow, the snow, the market, the orchard,
    the castle, the swamp, the railway station, the river, the island
""")

STORY_PHRASINGS = _phrases("""
    Tell a tiny story about {name} the {animal} in {place}.
    Tell me a tiny story about {name} the {animal} in {place}.
    Write a tiny story about a {animal} called {name} in {place}.
    Write a very short story about {name}, a {animal} in {place}.
    Story: {name} the {animal}, in {place}.
""")

STORY_OPENINGS = _phrases("""
    Once upon a time, a {animal} called {name} lived in {place}.
    One morning, {name} the {animal} woke up early in {place}.
    It was a quiet evening in {place}, and {name} the {animal} could not sleep.
    Everybody in {place} knew {name} the {animal}.
    {name} was a young {animal} who had never left {place}.
""")

STORY_WISHES = _phrases("""
    {name} wanted to find {treasure}.
    All day long {name} dreamed of {treasure}.
    "Today I will find {treasure}," said {name}.
    An old map told {name} about {treasure}.
    {name} had lost {treasure} and looked for it everywhere.
""")

TREASURES = _listed("""
    a golden key, the brightest star, a silver bell, a warm place for the winter, the sweetest
    apple, a secret door, a red balloon, a song that nobody knew, the moon, a lost letter, a blue
    stone, a good friend
""")

STORY_TROUBLES = _phrases("""
    But the wind was strong and the path was dark.
    But heavy rain began to fall.
    But the bridge was broken.
    But nobody knew the way.
    But a deep hole lay in the way.
    Soon {name} was tired and hungry.
    Then a thick fog came down.
""")

STORY_HELPS = _phrases("""
    A kind {helper} came by and showed the way.
    Then a {helper} lit a small lamp, and they went on together.
    A {helper} shared some bread and told a joke.
    Luckily a {helper} knew what to do.
    "Follow me," said a friendly {helper}.
""")

STORY_ENDINGS = _phrases("""
    In the end {name} found {treasure}, and they both danced until morning.
    That night {name} had {treasure} and a new friend.
    So {name} came home with {treasure} and a story to tell.
    And there it was: {treasure}. {name} laughed with joy.
    Since that day {name} and the {helper} have shared {treasure}.
""")

# A story is one sentence of each, in this order.
STORY_PARTS = (STORY_OPENINGS, STORY_WISHES, STORY_TROUBLES, STORY_HELPS, STORY_ENDINGS)
