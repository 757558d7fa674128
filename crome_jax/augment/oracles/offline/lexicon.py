"""Words that can be exchanged for one another and leave a sentence that reads as before but says something else."""


def _pairs(table: str) -> dict[str, str]:
    opposites: dict[str, str] = {}
    for a, b in (pair.split("/") for pair in table.split()):
        opposites.setdefault(a, b)
        opposites.setdefault(b, a)
    return opposites


OPPOSITES = _pairs(
    """
    increase/decrease increases/decreases increased/decreased increasing/decreasing before/after earlier/later
    early/late     more/less higher/lower high/low highest/lowest larger/smaller large/small largest/smallest
    always/never often/rarely frequently/seldom north/south east/west northern/southern eastern/western
    hot/cold hotter/colder warm/cool warmer/cooler maximum/minimum maximise/minimise maximize/minimize
    inside/outside above/below upper/lower internal/external inner/outer interior/exterior fast/slow faster/slower
    quickly/slowly strong/weak stronger/weaker strengthen/weaken strength/weakness strengths/weaknesses
    rich/poor heavy/light heavier/lighter wide/narrow deep/shallow thick/thin public/private ancient/modern
    major/minor majority/minority advantage/disadvantage advantages/disadvantages benefit/drawback benefits/drawbacks
    safe/dangerous safely/dangerously healthy/unhealthy legal/illegal accept/reject accepted/rejected allow/forbid
    allows/forbids allowed/forbidden love/hate supported/opposed include/exclude
    includes/excludes included/excluded expand/shrink expands/shrinks rise/fall rises/falls rose/fell rising/falling
    gain/loss gains/losses profit/loss profits/losses buy/sell buys/sells bought/sold import/export imports/exports
    win/lose won/lost winner/loser multiply/divide multiplied/divided horizontal/vertical horizontally/vertically
    liquid/solid positive/negative positively/negatively true/false correct/incorrect correctly/incorrectly
    success/failure successful/unsuccessful begins/ends began/ended easier/harder easy/difficult
    best/worst better/worse good/bad common/rare commonly/rarely male/female king/queen father/mother son/daughter
    husband/wife brother/sister brothers/sisters parent/child parents/children first/last enter/leave arrive/depart
    create/destroy creates/destroys created/destroyed simple/complex similar/different similarity/difference
    natural/artificial shorter/longer morning/evening dry/wet fresh/stale raw/cooked
    permanent/temporary direct/indirect directly/indirectly active/passive visible/invisible
    predator/prey debit/credit lender/borrower supply/demand optimistic/pessimistic
    raise/lower raises/lowers attract/repel attracts/repels absorb/release absorbs/releases
    connect/disconnect enable/disable enabled/disabled encourage/discourage encourages/discourages
    improve/worsen improves/worsens improved/worsened reduce/raise reduces/raises reduced/raised
    """
)
"""Words that state a relation, each with one that states the opposite."""

NUMBER_SCALES = tuple(
    tuple(row.split())
    for row in (
        "two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen",
        "twenty thirty forty fifty sixty seventy eighty ninety",
        "hundred thousand million billion trillion",
        "second third fourth fifth sixth seventh eighth ninth tenth",
        "half third quarter",
        "twice thrice",
        "double triple quadruple",
        "dozens hundreds thousands millions billions",
    )
)
"""Number words in order; the nearest ones on the same scale stand in for one another."""

CATEGORIES = tuple(
    tuple(name.strip() for name in row.split(","))
    for row in (
        "January,February,March,April,June,July,August,September,October,November,December",
        "Monday,Tuesday,Wednesday,Thursday,Friday,Saturday,Sunday",
        "spring,summer,autumn,winter",
        "red,blue,green,yellow,purple,orange,black,white,brown,pink,grey",
        "Europe,Asia,Africa,Australia,North America,South America,Antarctica",
        "Mercury,Venus,Mars,Jupiter,Saturn,Uranus,Neptune,Pluto",
        "France,Germany,Italy,Spain,Portugal,England,Scotland,Ireland,Norway,Sweden,Denmark,Finland,Poland,Austria,"
        "Switzerland,Greece,Turkey,Russia,Ukraine,Hungary,Belgium,the Netherlands,Egypt,Morocco,Nigeria,Kenya,"
        "South Africa,Ethiopia,India,China,Japan,Korea,Vietnam,Thailand,Indonesia,Pakistan,Iran,Iraq,Israel,"
        "Canada,Mexico,Brazil,Argentina,Chile,Peru,Colombia,Cuba,New Zealand",
        "French,German,Italian,Spanish,Portuguese,English,Scottish,Irish,Norwegian,Swedish,Danish,Polish,Austrian,"
        "Swiss,Greek,Turkish,Russian,Ukrainian,Hungarian,Dutch,Egyptian,Indian,Chinese,Japanese,Korean,Vietnamese,"
        "Thai,American,British,Canadian,Mexican,Brazilian,Australian,African,European,Asian,Arabic,Latin,Hebrew",
        "London,Paris,Berlin,Rome,Madrid,Lisbon,Vienna,Moscow,Athens,Cairo,Tokyo,Beijing,Delhi,Sydney,Toronto,"
        "New York,Chicago,Boston,Los Angeles,San Francisco,Seattle,Washington,Dublin,Amsterdam,Stockholm,Oslo",
        "California,Texas,Florida,Ohio,Pennsylvania,Virginia,Georgia,Oregon,Nevada,Arizona,Colorado,Michigan,Alaska",
        "Christianity,Islam,Judaism,Hinduism,Buddhism",
        "oxygen,hydrogen,nitrogen,carbon,helium,iron,copper,gold,silver,zinc,calcium,sodium,potassium,chlorine",
        "seconds,minutes,hours,days,weeks,months,years,decades,centuries",
        "inches,feet,yards,miles",
        "millimeters,centimeters,meters,kilometers",
        "grams,kilograms,ounces,pounds,tons",
        "teaspoon,tablespoon,cup,pint,quart,gallon",
        "teaspoons,tablespoons,cups,pints,quarts,gallons",
        "Python,Java,JavaScript,Ruby,Rust,Kotlin,Perl",
        "heart,liver,lungs,kidneys,stomach,brain",
        "proteins,carbohydrates,fats,vitamins,minerals",
        "chicken,beef,pork,lamb,turkey,salmon,tuna",
        "basil,oregano,thyme,rosemary,parsley,cilantro",
    )
)
"""Closed kinds of thing; a member stands in for any other of its row."""

KIN = {name: row for row in reversed(CATEGORIES) for name in row}
"""A member -> its row; of two rows that hold it, the first."""

SCALE = {word: row for row in reversed(NUMBER_SCALES) for word in row}
"""A number word -> its scale."""
