%% Documentation that compiles on every release and shows from OTP 27 on: `h(cryptoki, sign)`.
-if(?OTP_RELEASE >= 27).
-define(MODULEDOC(Text), -moduledoc(Text)).
-define(DOC(Text), -doc(Text)).
-define(SAME_AS(Function), -doc("As `" Function "`, with its defaults.")).
-else.
-define(MODULEDOC(Text), -compile([])).
-define(DOC(Text), -compile([])).
-define(SAME_AS(Function), -compile([])).
-endif.
